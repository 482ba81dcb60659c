"""The gate of a run: its plan, its looks, both rows of the record, and how it resumes."""

import json
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest

from bench.errors import Refused
from bench.records.config import RunConfig
from bench.records.schema import read_result
from bench.run.gate import draw_items
from bench.run.grid import resume_run
from bench.run.plan import FEWEST_ITEMS, GATE_SHARE, SLACK, plan_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.stats.gate import GateDesign, detectable_gain
from bench.weights.points import Point
from methods.interface import Decoding, Method, Plan, PlanLine, SingleModel
from methods.randopt import RandOpt, RandOptConfig
from reports.reading import read_record
from tasks.addition import Addition
from tasks.interface import Example, Splits, TaskTraits

SIZES = {"support": 40, "select": 40, "gate": 1000}


class Steps(Method):
    """Method that spends a part of its budget and returns a distant point, which is worse than the base."""

    name = "steps"
    version = "1"
    point: ClassVar[Point] = Point({1: 5e-2})

    def plan(self, evaluations, task):
        return Plan((PlanLine("sample", "nothing useful", evaluations),))

    def adapt(self, context):
        context.report["evaluations"] = round(context.budget / context.evaluation_flops)
        context.evaluate(Point({2: 1e-3}), "support", account="sample", examples=range(20))
        return SingleModel(self.point)


class Unchanged(Steps):
    """Method that searches and returns the base."""

    point = Point()


class Oracle(SingleModel):
    """Artifact that is right wherever it may look the sum up, at the cost of one pass."""

    def answer(self, deployment, examples):
        deployment.answer(self.point, examples)
        return [str(sum(map(int, example.split("+")))) for example in examples]


class Knows(Steps):
    """Method whose artifact is always right."""

    def adapt(self, context):
        super().adapt(context)
        return Oracle(Point({3: 1e-3}))


class Several(Steps):
    """Method with three artifacts, of which two are the same point."""

    def plan(self, evaluations, task):
        return Plan((PlanLine("sample", "nothing useful", evaluations),), passes=(1, 0, 1))

    def adapt(self, context):
        return {"a": SingleModel(Point({1: 5e-2})), "b": SingleModel(Point({1: 5e-2})), "c": Oracle(Point({3: 1e-3}))}


class Expensive(Steps):
    """Method whose artifact takes many more passes than it planned."""

    def adapt(self, context):
        class Sampling(SingleModel):
            def answer(self, deployment, examples):
                for seed in range(20):
                    texts = deployment.answer(self.point, examples, Decoding(temperature=1.0, seed=seed))
                return texts

        return Sampling(Point({3: 1e-3}))


class Late(SingleModel):
    """Artifact that goes on searching with the method's context, on one of the splits that it answers."""

    calls: ClassVar[dict] = {}

    def answer(self, deployment, examples):
        if deployment.account == self.calls["during"]:
            self.calls["search"]()
        return super().answer(deployment, examples)


class Latecomer(Steps):
    """Method whose artifact evaluates with the context that it kept."""

    during: ClassVar[str] = "gate"

    def adapt(self, context):
        result = super().adapt(context)
        Late.calls.update(during=self.during, search=lambda: self.late(context))
        return Late(result.point)

    def late(self, context):
        context.evaluate(Point({9: 1e-3}), "support", account="sample", examples=range(20))


class LatecomerAtTest(Latecomer):
    """The same, at the test."""

    during = "inference"


class Bypasses(LatecomerAtTest):
    """Method whose artifact evaluates past its context, at the test."""

    def late(self, context):
        evaluator = context._evaluator
        examples = context._examples["support"][:5]
        evaluator.score(Point({9: 1e-3}), examples, "support 0", "sample", None, "default", as_deployed=False)


class BypassesAtGate(Bypasses):
    """The same, at the gate."""

    during = "gate"


class ReadsGate(Steps):
    """Method that asks for the gate split."""

    def adapt(self, context):
        context.evaluate(Point(), "gate", account="sample", examples=range(1))


class BooksToGate(Steps):
    """Method that books its work to the gate."""

    def adapt(self, context):
        context.evaluate(Point(), "select", account="gate", examples=range(1))


class Ungated(Addition):
    """Addition without a gate split."""

    name = "ungated"

    def load(self, data=None):
        splits = super().load(data)
        return Splits(splits.support, splits.select, (), splits.test)


class Unjudged(Addition):
    """Addition whose scorer fails on the gate split, on every item or on every third."""

    name = "unjudged"
    every: ClassVar[int] = 1

    def load(self, data=None):
        splits = super().load(data)
        self.failing = {example.id for example in splits.gate[:: self.every]}
        return splits

    def score_many(self, examples, texts):
        scores = zip(examples, super().score_many(examples, texts), strict=True)
        failed = {"status": "infrastructure", "correct": False}
        return [replace(score, **failed) if example.id in self.failing else score for example, score in scores]


class PartlyUnjudged(Unjudged):
    """The same, on every third."""

    name = "partly-unjudged"
    every = 3


def config(method=Steps, **fields):
    method = method if isinstance(method, str) else f"{__name__}:{method.__name__}"
    defaults = {"task": "addition", "model": "tiny-adder", "budget": "600", "limit": 60}
    return RunConfig(method=method, **(defaults | fields))


def run(tmp_path, method=Steps, **fields):
    prepared = prepare(config(method, **fields), tmp_path, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def comparable(result):
    return result.model_copy(update={"timing": None})


def planned(evaluations, method=None, sizes=SIZES, **fields):
    return plan_run(method or Steps(Steps.Config()), config(**fields), evaluations, TaskTraits(sizes, vote_by="n"))


def test_the_plan_reserves_at_most_its_share_and_the_method_plans_the_rest():
    found = planned(1000)
    assert found.gate.items == int(GATE_SHARE * 1000 / (1 + SLACK))
    assert found.gate.evaluations <= GATE_SHARE * 1000
    assert found.evaluations == found.method.evaluations == 1000 - found.gate.evaluations
    assert sum(found.planned.values()) == 1000
    assert "detects a gain of +" in found.gate.what


def test_a_small_gate_split_reserves_no_more_than_it_can_use():
    found = planned(100_000, sizes=SIZES | {"gate": 40})
    assert (found.gate.items, found.gate.evaluations) == (40, 90)
    assert found.evaluations == 99_910


@pytest.mark.parametrize(
    ("evaluations", "fields", "sizes", "reason"),
    [
        (1000, {"gate": "off"}, SIZES, "--gate off"),
        (1000, {}, SIZES | {"gate": 0}, "the task has no gate split"),
        (1000, {}, SIZES | {"gate": FEWEST_ITEMS - 1}, "the gate split has 4 items; a gate needs 5"),
    ],
)
def test_without_a_gate_the_method_has_the_whole_budget_and_the_plan_says_why(evaluations, fields, sizes, reason):
    found = planned(evaluations, sizes=sizes, **fields)
    assert (found.gate.items, found.evaluations) == (0, evaluations)
    assert found.gate.ungated.startswith(reason)
    assert any(note.startswith(f"no gate: {reason}") for note in found.notes)
    assert "gate" not in found.planned


def test_a_share_that_buys_no_gate_stays_reserved_so_that_all_methods_adapt_with_the_same_budget():
    class Voters(Steps):
        def plan(self, evaluations, task):
            return Plan((PlanLine("sample", "nothing useful", evaluations),), passes=(50,))

    found, single = planned(1000, Voters(Voters.Config())), planned(1000)
    assert found.gate.items == 0 < single.gate.items
    assert found.evaluations == single.evaluations == 750
    assert found.planned["gate"] == found.gate.evaluations == 250
    assert found.gate.ungated == (
        "too few items to keep any result: it needs 5, which take 318 evaluations; 250 are reserved, and stay unspent"
    )
    assert "unspent" in found.gate.what
    assert planned(40).evaluations == 30


def test_a_run_without_enough_items_spends_nothing_of_what_is_reserved(tmp_path):
    _, result = run(tmp_path, Steps, budget="40")
    assert result.status == "ok"
    assert (result.report["evaluations"], result.gated) == (30, ())
    assert result.ungated.startswith("too few items to keep any result")
    assert "gate" not in result.ledger
    assert result.budget.planned == {"sample": 30, "gate": 10}


def test_an_answer_that_takes_several_passes_makes_the_gate_smaller():
    ensembles = RandOpt(RandOptConfig(top_k=(1, 5)))
    assert ensembles.plan(2000, TaskTraits(SIZES)).passes == (1, 4)  # the five share the first one's answers
    assert planned(2000, ensembles).gate.items == int(500 / (1 + 5 * SLACK))
    assert planned(2000, strategy="maj@4").gate.items == int(500 / (4 * (1 + SLACK)))


def test_a_strategy_deploys_and_gates_single_models_only():
    ensembles = RandOpt(RandOptConfig(top_k=(1, 5)))
    for strategy in ("maj@4", "bon@4"):
        assert planned(2000, ensembles, strategy=strategy).gate == planned(2000, strategy=strategy).gate


def test_the_plan_says_that_several_results_share_the_gate():
    ensembles = RandOpt(RandOptConfig(top_k=(1, 5)))
    assert "each of 2 results on at most" in planned(2000, ensembles).gate.what
    assert "fewer results leave more items to each" in planned(2000, ensembles).gate.what
    assert "results" not in planned(2000).gate.what


def test_a_method_that_refuses_its_part_says_what_is_reserved():
    class Needy(Steps):
        def plan(self, evaluations, task):
            if evaluations < 900:
                raise Refused("it needs 900")
            return super().plan(evaluations, task)

    with pytest.raises(
        Refused, match=r"it needs 900 \(of the budget of 1000 evaluations, 250 are reserved .*--gate off"
    ):
        planned(1000, Needy(Needy.Config()))


def test_the_items_are_drawn_per_seed():
    examples = [Example(str(i), {}) for i in range(100)]
    first, second = draw_items(examples, 20, 0), draw_items(examples, 20, 1)
    assert len({example.id for example in first}) == 20
    assert first == draw_items(examples, 20, 0)
    assert first[:5] == draw_items(examples, 5, 0)
    assert first != second


def test_a_result_that_passes_is_recorded_as_trained_and_kept(tmp_path):
    prepared, result = run(tmp_path, Knows)
    assert result.status == "ok", result.reason
    base, trained, gated = result.rows
    assert (result.artifacts, result.gated, result.ungated) == ((trained,), (gated,), None)
    assert gated.gate.accepted
    assert gated.gate.fixes > gated.gate.regressions == 0
    assert gated.gate.reason.startswith("kept at look")
    assert gated.answers_of == 1
    same = {"kind": "method", "gate": None, "answers_of": None}
    assert gated.model_copy(update=same) == trained
    assert trained.accuracy.accuracy == 1 > base.accuracy.accuracy
    assert read_result(prepared.folder) == result


def test_a_rejected_change_equals_the_base(tmp_path):
    prepared, result = run(tmp_path, Steps)
    base, trained, gated = result.rows
    assert trained.accuracy.accuracy < base.accuracy.accuracy
    assert not gated.gate.accepted
    assert gated.gate.regressions > gated.gate.fixes
    assert (gated.accuracy, gated.cost, gated.work, gated.weights) == (
        base.accuracy,
        base.cost,
        base.work,
        base.weights,
    )
    assert (gated.changed, gated.answers_of) == (False, 0)
    assert (gated.comparison.fixes, gated.comparison.regressions, gated.comparison.items) == (0, 0, 60)
    samples = [json.loads(line) for line in (prepared.folder / "samples.jsonl").read_text().splitlines()]
    assert [sample["row"] for sample in samples] == [0] * 60 + [1] * 60
    record = read_record(prepared.folder)
    assert len(record.verdicts) == 2
    assert record.of_label("") == record.verdicts[1]


def test_the_gate_is_billed_within_its_reserve_and_not_to_the_method(tmp_path):
    _, result = run(tmp_path, Steps)
    reserved = result.budget.planned["gate"]
    assert result.report["evaluations"] == 600 - reserved
    assert 0 < result.ledger["gate"].flops <= reserved * result.budget.evaluation_flops
    assert result.budget.spent == result.ledger["sample"].flops + result.ledger["gate"].flops
    assert result.ledger["inference"].work.evaluations == result.ledger["evaluation"].work.evaluations == 60


def test_artifacts_share_the_answers_of_the_base_and_of_each_other(tmp_path):
    prepared, result = run(tmp_path, Several)
    assert [(row.kind, row.label) for row in result.rows] == [
        ("base", ""),
        *((kind, label) for label in "abc" for kind in ("method", "gated")),
    ]
    a, b, c = (row.gate for row in result.gated)
    assert a == b
    assert (a.accepted, c.accepted) == (False, True)
    assert [row.answers_of for row in result.gated] == [0, 0, 5]
    # The base answers each item once, the two equal artifacts together once, and the third once.
    assert result.ledger["gate"].work.evaluations == max(a.items, c.items) + a.items + c.items
    samples = [json.loads(line) for line in (prepared.folder / "samples.jsonl").read_text().splitlines()]
    assert sorted({sample["row"] for sample in samples}) == [0, 1, 3, 5]
    assert len(read_record(prepared.folder).verdicts) == 4


def test_a_method_that_returns_the_base_is_gated_without_a_test(tmp_path):
    _, result = run(tmp_path, Unchanged)
    (gated,) = result.gated
    assert (gated.gate.accepted, gated.gate.items) == (False, 0)
    assert gated.gate.reason == "rejected: the method returned the unchanged base"
    assert "gate" not in result.ledger


def test_a_control_and_a_task_without_gate_split_have_no_gated_row(tmp_path):
    _, control = run(tmp_path, "base")
    assert (control.gated, control.ungated) == ((), "base leaves the base unchanged")
    assert control.is_control
    _, ungated = run(tmp_path, Steps, task=f"{__name__}:Ungated")
    assert (ungated.status, ungated.gated, ungated.ungated) == ("ok", (), "the task has no gate split")
    assert ungated.report["evaluations"] == 600
    _, off = run(tmp_path, Steps, gate="off")
    assert (off.gated, off.ungated) == ((), "--gate off")


def test_a_result_whose_answers_cost_more_than_what_was_reserved_is_rejected(tmp_path):
    _, result = run(tmp_path, Expensive)
    assert result.status == "ok"
    (gated,) = result.gated
    assert gated.gate.reason == "rejected: its answers cost more than what was reserved"
    assert not gated.gate.accepted
    assert result.budget.spent <= result.budget.flops


def test_items_that_could_not_be_judged_are_named_and_left_out_of_the_detectable_gain(tmp_path):
    _, result = run(tmp_path, Knows, task=f"{__name__}:PartlyUnjudged")
    (gated,) = result.gated
    gate = gated.gate
    assert 0 < gate.excluded < gate.items
    assert gate.reason.endswith(f"; {gate.excluded} of {gate.items} items could not be judged")
    judged = round(gate.max_items * (1 - gate.excluded / gate.items))
    assert gate.detectable == detectable_gain(GateDesign(judged), 0.0) > detectable_gain(GateDesign(gate.max_items), 0)


def test_a_gate_without_a_judged_item_is_an_error(tmp_path):
    _, result = run(tmp_path, Knows, task=f"{__name__}:Unjudged")
    assert (result.status, result.reason) == ("failed", "no gate answer could be judged; see `bench doctor`")


def test_a_voter_is_gated_as_it_votes(tmp_path):
    _, result = run(tmp_path, "self-consistency", budget="800", method_config={"samples": 3, "temperature": 0.1})
    _, voter, gated = result.rows
    assert gated.gate.items > 0
    assert gated.gate.max_items == int(200 / (1 + 3 * SLACK))
    assert result.ledger["gate"].work.evaluations == 4 * gated.gate.items
    assert voter.report["voters"] == 3  # of the test, not of the gate
    assert not result.is_control


def test_a_strategy_applies_to_base_and_result_at_the_gate(tmp_path):
    _, result = run(tmp_path, Steps, budget="2000", strategy="maj@3", limit=20)
    (gated,) = result.gated
    assert result.ledger["gate"].work.evaluations == 2 * 3 * gated.gate.items


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ReadsGate, "may not read split 'gate'; it has support, select; the gate is the harness's, see --gate"),
        (BooksToGate, "may not book to account 'gate'; it has sample, select, train, tune"),
    ],
)
def test_a_method_has_no_access_to_the_gate(tmp_path, method, message):
    _, result = run(tmp_path, method)
    assert result.status == "failed"
    assert message in result.reason


@pytest.mark.parametrize(
    ("method", "status", "message"),
    [
        (Latecomer, "failed", "used the context after `adapt` had returned"),
        (LatecomerAtTest, "failed", "used the context after `adapt` had returned"),
        (Bypasses, "over_budget", "spent from the budget after `adapt` had returned"),
        (BypassesAtGate, "over_budget", "spent from the budget after `adapt` had returned"),
    ],
)
def test_a_method_ends_when_adapt_returns(tmp_path, method, status, message):
    _, result = run(tmp_path, method)
    assert result.status == status, result.reason
    assert message in result.reason


@pytest.mark.parametrize("method", [Several, Expensive])
def test_a_run_interrupted_at_the_gate_ends_like_an_uninterrupted_one(tmp_path, method):
    prepared, uninterrupted = run(tmp_path, method)
    lines = (prepared.folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    looked = [i for i, line in enumerate(lines) if b'"gate' in line]
    assert len(looked) > 4
    for kept in (looked[0], looked[len(looked) // 2], looked[-1], looked[-1] + 1):
        copy = tmp_path / f"kept-{kept}" / prepared.folder.relative_to(tmp_path)
        copy.mkdir(parents=True)
        shutil.copy(prepared.folder / "config.json", copy)
        (copy / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        outcome = resume_run(copy, ProgressDisplay(quiet=True))
        assert outcome.error is None
        assert comparable(outcome.result) == comparable(uninterrupted)
        assert (copy / "journal.jsonl").read_bytes().count(b"\n") == len(lines)
        assert (copy / "samples.jsonl").read_bytes() == (prepared.folder / "samples.jsonl").read_bytes()


def test_a_stored_run_with_a_gate_of_its_own_says_what_to_do(tmp_path):
    prepared, _ = run(tmp_path, "base")
    path = prepared.folder / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"method": "corp", "method_config": {"gate": "both"}}))
    outcome = resume_run(prepared.folder, ProgressDisplay(quiet=True))
    assert "corp: gate: no longer a setting; the harness gates" in str(outcome.error)
    assert '--gate off|harness (given "both")' in str(outcome.error)
