from itertools import pairwise
from types import SimpleNamespace

import pytest

from bench.records.rows import GateRecord
from bench.stats.gate import GateDesign, detectable_gain, keep_probability
from reports.analysis.gate import power_of


def row(label="", **fields):
    defaults = {"accepted": False, "items": 60, "max_items": 240, "fixes": 8, "regressions": 4, "level": 0.05}
    return SimpleNamespace(label=label, gate=GateRecord(reason="rejected", **(defaults | fields)))


def test_the_power_is_that_of_the_design_at_the_observed_share_of_changes():
    (found,) = power_of([row("k=1")])
    design = GateDesign(240)
    assert (found.label, found.flip_rate, found.max_items) == ("k=1", pytest.approx(0.2), 240)
    assert found.keeps_noise == keep_probability(design, 0.1, 0.1) <= 0.05
    gain = dict(zip(found.gains, found.power, strict=True))
    assert gain[0.1] == pytest.approx(keep_probability(design, 0.15, 0.05))
    assert all(after >= before - 1e-6 for before, after in pairwise(found.power))
    assert found.detectable["0.8"] == detectable_gain(design, 4 / 60)
    assert found.detectable["0.5"] < found.detectable["0.8"] < found.detectable["0.95"]
    assert 60 <= found.expected_items <= 240


def test_a_row_that_answered_nothing_is_left_out():
    unchanged = row(items=0, fixes=0, regressions=0)
    assert power_of([unchanged, SimpleNamespace(label="", gate=None)]) == ()


def test_a_result_that_breaks_half_of_the_answers_cannot_be_kept():
    (found,) = power_of([row(fixes=2, regressions=40)])
    assert set(found.detectable.values()) == {None}
