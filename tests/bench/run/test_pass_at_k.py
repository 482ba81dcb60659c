import json
import re

import numpy as np
import pytest

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.errors import BenchError
from bench.records.pricing import flops_of, reprice
from bench.records.schema import RunConfig, read_result
from bench.run.pass_at_k import estimate, summarise
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from methods.interface import Method, Plan, SingleModel
from reports.run.summary import coverages, named_rows
from tasks.addition import Addition
from tasks.interface import Score

WORK = Work(evaluations=16)
SHAPE = ModelShape(
    layers=1, hidden_size=2, heads=1, kv_heads=1, head_dim=2, intermediate_size=4, vocab_size=8, tied=True
).profile()
RIGHT, WRONG, LOST = Score(1.0, True), Score(0.0, False), Score(0.0, True, status="infrastructure")


class Moved(Method):
    """Method that returns one single model and one other artifact."""

    name = "moved"
    version = "1"

    def plan(self, evaluations, task):
        return Plan(())

    def adapt(self, context):
        return {"one": SingleModel(Point({1: 5e-2})), "other": Other()}


class OtherOnly(Moved):
    """Method that returns no single model."""

    def adapt(self, context):
        return Other()


class Other(SingleModel):
    """Artifact with its own way to answer."""

    def answer(self, deployment, examples):
        raise AssertionError("a strategy that cannot be applied must not be tested")


def run(folder, strategy, method=Moved, **fields):
    defaults = {
        "task": "addition",
        "model": "tiny-adder",
        "budget": "64",
        "limit": 40,
        "dtype": "float32",
        "gate": "off",
    }
    config = RunConfig(
        method=f"{__name__}:{method.__name__}", strategy=strategy, **({"dtype": "float32"} | defaults | fields)
    )
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def test_answers_that_could_not_be_judged_are_not_counted_as_samples():
    judged = [[RIGHT, LOST, WRONG], [WRONG, LOST, LOST], [WRONG, LOST, WRONG], [WRONG, RIGHT, RIGHT]]
    found = estimate(judged, 2)
    assert found[[0, 2]] == pytest.approx([0.5, 2 / 3])
    assert np.isnan(found[1])


def test_base_and_row_are_compared_over_items_with_both_estimates():
    now, base = np.array([1.0, 0.5, np.nan, 0.5]), np.array([0.5, 0.5, 1.0, np.nan])
    found = summarise(now, base, 2, WORK, SHAPE, 4)
    assert (found.items, found.excluded, found.samples, found.value) == (2, 2, 4, 0.75)
    assert (found.work, found.cost.evaluations) == (WORK, 2)
    assert (found.difference.items, found.difference.difference) == (2, 0.25)
    assert found.low < 0.75 < found.high
    alone = summarise(base, None, 2, WORK, SHAPE, 4)
    assert (alone.items, alone.difference) == (3, None)
    with pytest.raises(BenchError, match="no test example has 2 answers that could be judged"):
        summarise(np.array([np.nan]), None, 2, WORK, SHAPE, 4)


def test_pass_at_k_is_reported_next_to_greedy_accuracy_and_booked_as_inference(tmp_path):
    prepared, result = run(tmp_path / "a", "pass@2")
    assert result.status == "ok", result.traceback
    base, row = result.rows
    assert "not one model" in result.untested["other"]
    assert row.cost.evaluations == 1
    assert (row.coverage.k, row.coverage.samples, row.coverage.cost.evaluations) == (2, 4, 2)
    for account, tested in (("inference", row), ("evaluation", base)):
        assert result.ledger[account].work.evaluations == 40 * (1 + 4)
        flops = tested.cost.flops + 2 * tested.coverage.cost.flops
        assert result.ledger[account].flops == pytest.approx(40 * flops)
        assert result.ledger[account].work == tested.work + tested.coverage.work
    assert base.accuracy.accuracy < base.coverage.value <= 1
    assert row.coverage.difference.difference == pytest.approx(row.coverage.value - base.coverage.value)
    assert row.coverage.difference.difference < 0  # the noise is strong enough to hurt
    assert {path.name for path in (prepared.folder / "artifact").iterdir()} == {"one"}
    assert read_result(prepared.folder).rows == result.rows
    assert reprice(result) == result


def test_a_curve_of_pass_at_k_comes_from_the_samples_of_its_largest_k(tmp_path):
    _, curve = run(tmp_path / "a", "pass@1,2,4")
    _, alone = run(tmp_path / "b", "pass@4")
    for row, other in zip(curve.rows, alone.rows, strict=True):
        assert row.coverage == other.coverage
        assert [c.k for c in row.coverages] == [1, 2, 4]
        assert [c.samples for c in row.coverages] == [8, 8, 8]
        values = [c.value for c in row.coverages]
        assert values == sorted(values)
        assert [c.cost.evaluations for c in row.coverages] == [1, 2, 4]
        assert other.curve == ()
    assert curve.ledger["inference"] == alone.ledger["inference"]
    one = curve.rows[1].coverages[0]
    assert one.difference.difference == pytest.approx(one.value - curve.rows[0].coverages[0].value)
    assert reprice(curve) == curve
    assert flops_of(curve)["rows.1.curve.0.cost.flops"] == one.cost.flops
    (line,) = (line for line in coverages(named_rows(curve)) if not line.startswith("base"))
    assert re.search(r"pass@1 .* %.*, pass@2 .* %.*, pass@4 .* %.*, from 8 samples .* points at k = 4", line)


def test_an_interrupted_test_with_a_strategy_ends_like_an_uninterrupted_one(tmp_path):
    prepared, uninterrupted = run(tmp_path, "pass@2")
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in (4, len(lines) - 3):
        journal.write_bytes(b"".join(lines[:kept]))
        (prepared.folder / "result.json").unlink()
        again = execute(prepared, ProgressDisplay(quiet=True))
        assert again.model_copy(update={"timing": None}) == uninterrupted.model_copy(update={"timing": None})
        assert journal.read_bytes().count(b"\n") == len(lines)


def test_a_majority_vote_applies_to_the_row_and_to_the_base(tmp_path):
    prepared, result = run(tmp_path / "a", "maj@3")
    assert result.status == "ok", result.traceback
    before, row = result.rows
    assert row.cost.evaluations == before.cost.evaluations == 3
    assert row.report["voters"] == 3
    assert row.coverage is None
    assert row.comparison.difference == pytest.approx(row.accuracy.accuracy - before.accuracy.accuracy)
    assert json.loads((prepared.folder / "artifact" / "one" / "recipe.json").read_text())["chosen_by"].startswith(
        "plural"
    )
    # The base's answers depend neither on the method nor on the seed.
    config = prepared.config.model_copy(update={"method": "base", "method_config": {}, "seed": 5})
    base = execute(prepare(config, tmp_path / "b", ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    assert base.rows[0].accuracy == base.rows[1].accuracy == before.accuracy
    assert base.is_control


def test_a_strategy_refuses_artifacts_that_are_not_single_models(tmp_path):
    _, result = run(tmp_path, "maj@3", OtherOnly)
    assert (result.status, result.rows, result.traceback) == ("refused", (), None)
    assert "not one model, and --strategy maj@3" in result.reason


def test_a_task_without_a_signal_is_a_refused_cell_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(Addition, "signal_by", None)
    prepared, result = run(tmp_path, "bon@4")
    assert (result.status, result.rows, result.traceback) == ("refused", (), None)
    assert "--strategy bon@4 cannot be used on addition: nothing tells good answers" in result.reason
    assert read_result(prepared.folder).reason == result.reason
