import json

import numpy as np
import pytest

from bench.errors import BenchError, Refused
from bench.records.schema import AnswerCost, RunConfig, read_result
from bench.run.pass_at_k import estimate, summarise
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from methods.interface import Method, Plan, SingleModel
from tasks.addition import Addition
from tasks.interface import Score

COST = AnswerCost(evaluations=2, flops=1, new_tokens=1)
RIGHT, WRONG, LOST = Score(1.0, True), Score(0.0, False), Score(0.0, True, status="infrastructure")


class Moved(Method):
    """Deploys one model beside the base, and something that is not one."""

    name = "moved"
    version = "1"

    def plan(self, evaluations, task):
        return Plan(())

    def adapt(self, context):
        return {"one": SingleModel(Point({1: 5e-2})), "other": Other()}


class Several(Moved):
    """Deploys nothing that is one model."""

    def adapt(self, context):
        return Other()


class Other(SingleModel):
    """Answers in a way of its own."""

    def answer(self, deployment, examples):
        raise AssertionError("a strategy that cannot be applied must not be tested")


def run(folder, strategy, method=Moved, **fields):
    defaults = {"task": "addition", "model": "tiny-adder", "budget": "64", "limit": 40, "dtype": "float32"}
    config = RunConfig(method=f"{__name__}:{method.__name__}", strategy=strategy, **(defaults | fields))
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def test_answers_that_could_not_be_judged_are_no_samples():
    judged = [[RIGHT, LOST, WRONG], [WRONG, LOST, LOST], [WRONG, LOST, WRONG], [WRONG, RIGHT, RIGHT]]
    found = estimate(judged, 2)
    assert found[[0, 2]] == pytest.approx([0.5, 2 / 3])
    assert np.isnan(found[1])


def test_base_and_row_are_compared_over_the_items_estimated_for_both():
    now, base = np.array([1.0, 0.5, np.nan, 0.5]), np.array([0.5, 0.5, 1.0, np.nan])
    found = summarise(now, base, 2, COST)
    assert (found.items, found.excluded, found.samples, found.value) == (2, 2, 4, 0.75)
    assert (found.difference.items, found.difference.difference) == (2, 0.25)
    assert found.low < 0.75 < found.high
    alone = summarise(base, None, 2, COST)
    assert (alone.items, alone.difference) == (3, None)
    with pytest.raises(BenchError, match="of no test example could 2 answers be judged"):
        summarise(np.array([np.nan]), None, 2, COST)


def test_passes_stand_beside_greedy_accuracy_and_are_billed_as_inference(tmp_path):
    prepared, result = run(tmp_path / "a", "pass@2")
    assert result.status == "ok", result.traceback
    (row,) = result.rows
    assert "not one model" in result.refused["other"]
    assert row.cost.evaluations == 1
    assert (row.coverage.k, row.coverage.samples, row.coverage.cost.evaluations) == (2, 4, 2)
    for account, covered in (("inference", row.coverage), ("evaluation", result.base_coverage)):
        assert result.ledger[account].work.evaluations == 40 * (1 + 4)
        answers = row.cost if account == "inference" else result.base_cost
        assert result.ledger[account].flops == pytest.approx(40 * (answers.flops + 2 * covered.cost.flops))
    assert result.base.accuracy < result.base_coverage.value <= 1
    assert row.coverage.difference.difference == pytest.approx(row.coverage.value - result.base_coverage.value)
    assert row.coverage.difference.difference < 0  # the noise is strong enough to do harm
    assert {path.name for path in (prepared.folder / "artifact").iterdir()} == {"one"}
    assert read_result(prepared.folder).base_coverage == result.base_coverage


def test_an_interrupted_test_under_a_strategy_ends_as_an_unbroken_one(tmp_path):
    prepared, unbroken = run(tmp_path, "pass@2")
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in (4, len(lines) - 3):
        journal.write_bytes(b"".join(lines[:kept]))
        (prepared.folder / "result.json").unlink()
        again = execute(prepared, ProgressDisplay(quiet=True))
        assert again.model_copy(update={"timing": None}) == unbroken.model_copy(update={"timing": None})
        assert journal.read_bytes().count(b"\n") == len(lines)


def test_a_vote_is_an_ordinary_row_and_the_base_votes_too(tmp_path):
    prepared, result = run(tmp_path / "a", "maj@3")
    assert result.status == "ok", result.traceback
    (row,) = result.rows
    assert row.cost.evaluations == result.base_cost.evaluations == 3
    assert row.report["voters"] == 3
    assert row.coverage is None
    assert row.comparison.difference == pytest.approx(row.accuracy.accuracy - result.base.accuracy)
    assert json.loads((prepared.folder / "artifact" / "one" / "recipe.json").read_text())["chosen_by"].startswith(
        "plural"
    )
    # What the base answers depends neither on the method nor on its seed.
    config = prepared.config.model_copy(update={"method": "base", "method_config": {}, "seed": 5})
    base = execute(prepare(config, tmp_path / "b", ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    assert base.base == base.rows[0].accuracy == result.base
    assert not base.rows[0].changed


def test_what_is_not_one_model_is_refused_with_a_reason(tmp_path):
    _, result = run(tmp_path, "maj@3", Several)
    assert (result.status, result.rows) == ("failed", ())
    assert "not one model, and --strategy maj@3" in result.reason


def test_a_task_that_cannot_choose_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Addition, "signal_by", None)
    with pytest.raises(Refused, match="--strategy bon@4 cannot be used on addition: nothing tells good answers"):
        run(tmp_path, "bon@4")
    assert not list(tmp_path.iterdir())
