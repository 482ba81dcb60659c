import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from bench.records.rows import GateRecord
from bench.stats import Estimate
from reports.analysis.gate import power_of
from reports.analysis.results import Density, GatePowers, Share, SplitHalf, Statistic, Step, SubspaceOverlap
from reports.analysis.terminal import overlap_verdict, transfer_verdict
from reports.html.analysis import NONE, Analyses, analysis_sections, ledger_plot, read_analyses
from reports.html.run import run_page


def gated(**counts):
    decision = GateRecord(accepted=False, max_items=120, level=0.05, reason="rejected", **counts)
    return SimpleNamespace(label="", gate=decision)


def statistic(p_value):
    return Statistic(0.5, 0.1, 0.2, p_value, (0.0, 0.3), (5, 9, 5))


def overlap(*p_values, dimensions=None):
    return SubspaceOverlap(dimensions, (10, 10), (4.0, 5.0), 3, *map(statistic, p_values))


STEP = Step(1e-3, 40, 0.5, 0.6, 0.45, 7, Estimate(0.1, 0.0, 0.2), Estimate(0.15, 0.05, 0.25), 0.01)
HALVES = SplitHalf((20, 20), 19, overlap(0.05, 0.01), overlap(0.6, 0.03, dimensions=64), (STEP, STEP))
SHARE = Share(1e-3, 0.01, 10, Estimate(0.3, 0.1, 0.6), 0.2, 0.4, 0.2, 0.01)
DENSITY = Density("addition", "tiny-adder", 333_312, 40, 0.5, (SHARE, SHARE))
GATE = GatePowers(power_of([gated(fixes=8, regressions=4, items=60)]))


def test_verdicts_are_corrected_for_all_tests():
    assert overlap_verdict(overlap(0.05, 0.01)).startswith("the overlap is larger than by chance (p 0.02 ")
    assert overlap_verdict(overlap(0.6, 0.03)).startswith("the overlap is no larger than by chance (p 0.06 ")
    assert transfer_verdict(HALVES).startswith("a step beats random steps (p 0.02 ")


def test_every_analysis_is_plotted(make_record, parse):
    found = Analyses(HALVES, DENSITY, GATE)
    assert [section.heading for section in analysis_sections(found)] == [
        "Split halves",
        "Density of good perturbations",
        "Power of the gate",
    ]
    halves, density, gate = analysis_sections(found)
    assert [len(section.plots) for section in (halves, density, gate)] == [5, 1, 1]
    assert [mark.strong for mark in halves.plots[0].marks] == [True]
    assert len(halves.plots[0].bars) == 3
    assert density.plots[0].path
    page = parse(run_page(make_record().result, analyses=found))
    assert "other candidates, 64 dimensions" in page.text
    assert not analysis_sections(NONE)


def test_saved_analyses_are_read(tmp_path):
    assert read_analyses(tmp_path) == NONE
    folder = tmp_path / "analysis"
    folder.mkdir()
    for name, value in (("split-half", HALVES), ("density", DENSITY), ("gate", GATE)):
        (folder / f"{name}.json").write_text(json.dumps(asdict(value)))
    assert read_analyses(tmp_path) == Analyses(HALVES, DENSITY, GATE)
    (folder / "density.json").write_text('{"from": "another version"}')
    assert read_analyses(tmp_path) == Analyses(HALVES, None, GATE)


def test_the_ledger_plot_has_one_bar_per_account(make_record):
    plot = ledger_plot(make_record().result.ledger)
    assert [tick.text for tick in plot.x_ticks] == ["sample", "inference"]
    assert [bar.tooltip.endswith("not billed") for bar in plot.bars] == [False, True]
    heights = [bar.height for bar in plot.bars]
    flops = [row.flops for row in make_record().result.ledger.values()]
    assert heights[1] / heights[0] == pytest.approx(flops[1] / flops[0], abs=0.01)
    assert ledger_plot({}) is None
