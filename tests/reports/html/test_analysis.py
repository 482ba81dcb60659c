import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from bench.records.rows import GateRecord
from bench.stats import Estimate
from reports.analysis.gate import power_of
from reports.analysis.results import (
    Computed,
    Density,
    Drift,
    GatePowers,
    Geometry,
    LayerMove,
    Line,
    ModelMove,
    Share,
    SplitHalf,
    Statistic,
    Step,
    SubspaceOverlap,
)
from reports.analysis.terminal import geometry_verdicts, overlap_verdict, transfer_verdict
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

LAYERS = (LayerMove("attention", 60, 3.0, 0.1, 0.36), LayerMove("mlp", 140, 4.0, None, 0.64))
NATS = Estimate(0.2, 0.1, 0.3)
GEOMETRY = Geometry(
    model="tiny-adder",
    dtype="float32",
    weights=200,
    moves=(
        ModelMove("es", "a" * 64, "addition", 5.0, 0.2, LAYERS),
        ModelMove("grpo", "b" * 64, "gsm8k", 1.0, None, LAYERS),
    ),
    cosines=((1.0, -0.25), (-0.25, 1.0)),
    null_sd=0.07,
    drifts=(
        Drift("es", "addition", True, 20, 60, NATS, NATS),
        Drift("grpo", "addition", False, 20, 60, Estimate(0.0, 0.0, 0.0), NATS),
        Drift("es", "countdown", False, 20, 60, NATS, NATS),
    ),
    lines=(
        Line("base", "es", "addition", 20, (0.0, 0.5, 1.0), (0.5, 0.2, 0.6), Estimate(0.35, 0.1, 0.6), 0.5),
        Line("es", "grpo", "gsm8k", 20, (0.0, 0.5, 1.0), (0.5, 0.55, 0.6), Estimate(0.0, -0.2, 0.2), 0.5),
    ),
    computed=Computed("analysis", 100, 10**9, 2 * 10**9),
    notes=("base of run c is left out",),
)


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


def test_noise_that_is_not_plain_is_named():
    assert "noise" not in dict(analysis_sections(Analyses(density=DENSITY))[0].facts)
    (section,) = analysis_sections(Analyses(density=replace(DENSITY, noise="lowrank")))
    assert dict(section.facts)["noise"] == "lowrank"


def test_geometry_is_plotted_with_its_figures(make_record, parse):
    moves, directions, divergence, lines = analysis_sections(Analyses(geometry=GEOMETRY))
    assert dict(moves.facts)["es"] == "norm 5, 20.0 % of the base's norm"
    assert dict(moves.facts)["grpo"] == "norm 1"
    assert dict(moves.facts)["note"] == "base of run c is left out"
    assert [bar.tooltip for bar in moves.plots[0].bars] == [
        "attention: 36.0 % of the energy, 30.0 % of the weights",
        "mlp: 64.0 % of the energy, 70.0 % of the weights",
    ]
    assert dict(directions.facts)["es, grpo"] == "-0.25, -3.6 standard deviations"
    (heat,) = directions.plots
    assert [bar.shade for bar in heat.bars] == [1.0, 0.25, 0.25, 1.0]
    assert heat.bars[1].x > heat.bars[0].x
    assert heat.bars[2].y > heat.bars[0].y
    assert [plot.title for plot in divergence.plots] == [
        "KL(base || model) on 20 prompts of addition; tested on it: es",
        "KL(base || model) on 20 prompts of countdown; tested on it: no model",
    ]
    tall, flat = divergence.plots[0].bars
    assert tall.height > 0 == flat.height
    assert [mark.high < mark.y < mark.low for mark in divergence.plots[0].marks] == [True, False]
    assert [plot.title for plot in lines.plots] == [
        "base to es, on 20 items of addition: barrier +35.0 points (+10.0 to +60.0)",
        "es to grpo, on 20 items of gsm8k: barrier +0.0 points (-20.0 to +20.0)",
    ]
    assert lines.plots[0].path.count("M") == 2
    assert lines.plots[0].y_ticks == lines.plots[1].y_ticks
    page = parse(run_page(make_record().result, analyses=Analyses(geometry=GEOMETRY)))
    assert "billed to no budget" in page.text


def test_the_verdict_names_the_lines_with_a_barrier():
    barrier, *_ = geometry_verdicts(GEOMETRY)
    assert barrier.startswith("barrier larger than noise: base to es on addition (at 0.5); ")


def test_saved_analyses_are_read(tmp_path):
    assert read_analyses(tmp_path) == NONE
    folder = tmp_path / "analysis"
    folder.mkdir()
    for name, value in (("split-half", HALVES), ("density", DENSITY), ("gate", GATE), ("geometry", GEOMETRY)):
        (folder / f"{name}.json").write_text(json.dumps(asdict(value)))
    assert read_analyses(tmp_path) == Analyses(HALVES, DENSITY, GATE, GEOMETRY)
    (folder / "density.json").write_text('{"from": "another version"}')
    assert read_analyses(tmp_path) == Analyses(HALVES, None, GATE, GEOMETRY)


def test_the_ledger_plot_has_one_bar_per_account(make_record):
    plot = ledger_plot(make_record().result.ledger)
    assert [tick.text for tick in plot.x_ticks] == ["sample", "inference"]
    assert [bar.tooltip.endswith("not billed") for bar in plot.bars] == [False, True]
    heights = [bar.height for bar in plot.bars]
    flops = [row.flops for row in make_record().result.ledger.values()]
    assert heights[1] / heights[0] == pytest.approx(flops[1] / flops[0], abs=0.01)
    assert ledger_plot({}) is None
