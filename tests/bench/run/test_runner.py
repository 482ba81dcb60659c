import json
import re
import shutil
from typing import ClassVar

import pytest
from transformers import AutoModelForCausalLM

from bench.compute.meter import OverBudget
from bench.errors import Refused, UsageError
from bench.records.files import WriteFailed
from bench.records.journal import JournalDamaged, JournalOutdated, JournalRemoved
from bench.records.pricing import reprice
from bench.records.schema import RunConfig, read_result
from bench.run import runner, test_split
from bench.run.attempt import Attempt
from bench.run.grid import resume_run
from bench.run.prepare import finished, prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.test_split import TestSplit as Testing
from bench.weights.points import Point
from methods.interface import Decoding, Method, Plan, SingleModel
from tasks.addition import Addition
from tasks.interface import SPLITS, Example, cut

QUIET = ProgressDisplay(quiet=True)


class Turned(Addition):
    """A few other sums, with the operands swapped in the prompt. It claims to run code."""

    name = "turned"
    version = "7"
    executes_code = True
    scored: ClassVar[list[str]] = []

    def load(self, data=None):
        pairs = [(a, b) for a in range(100, 110) for b in range(9)]
        return cut([Example(f"{a}+{b}", {"a": a, "b": b}) for a, b in pairs], salt="", **dict.fromkeys(SPLITS, 20))

    def completion(self, example, prompt="default"):
        return super().completion(example, "swapped")

    def score(self, example, text):
        self.scored.append(example.id)
        return super().score(example, text)


class Fixed(Method):
    """Method that returns a fixed point after two evaluations."""

    name = "fixed"
    version = "1"

    def plan(self, evaluations, task):
        return Plan(())

    def adapt(self, context):
        for split, account in (("support", "sample"), ("select", "select")):
            context.evaluate(Point({1: 1e-3}), split, account=account, examples=range(20))
        context.report["seen"] = sorted(context.task.sizes)
        return SingleModel(Point({1: 5e-3}))


class Endless(Fixed):
    """Method that never stops evaluating."""

    def adapt(self, context):
        while True:
            context.evaluate(Point({1: 1e-3}), "support", account="sample")


class IgnoresStop(Fixed):
    """Method that catches OverBudget and continues."""

    def adapt(self, context):
        while True:
            try:
                context.evaluate(Point({1: 1e-3}), "support", account="sample")
            except OverBudget:
                return SingleModel(Point({1: 1e-3}))


class Broken(Fixed):
    """Method that fails half way."""

    def adapt(self, context):
        context.evaluate(Point({1: 1e-3}), "support", account="sample", examples=range(20))
        raise ZeroDivisionError("on purpose")


class Tamperer(Fixed):
    """Method that raises its own budget limit."""

    def adapt(self, context):
        context._evaluator.meter.limit = 10**30
        for _ in range(8):
            context.evaluate(Point({1: 1e-3}), "support", account="sample")
        return SingleModel()


class Exits(Fixed):
    """Method that calls sys.exit."""

    def adapt(self, context):
        raise SystemExit(0)


class ReadsTest(Fixed):
    """Method that evaluates on the test split."""

    def adapt(self, context):
        context.evaluate(Point(), "test", account="sample", examples=range(1))
        return SingleModel()


class Cheats(Fixed):
    """Method whose artifact tries to change the base's answers, and claims that it is unchanged."""

    def adapt(self, context):
        class CheatingModel(SingleModel):
            def answer(self, deployment, examples):
                deployment.answer(Point(), ["0+0"] if "0+0" in examples else examples[:1])
                self.report["changed"] = False
                return deployment.answer(self.point, examples)

        return CheatingModel(Point({1: 5e-2}))


class Pair(Fixed):
    """Method that returns two artifacts: a single model, and one that samples."""

    def adapt(self, context):
        return {"one": SingleModel(Point({1: 5e-3})), "three": SeveralPasses()}


class SeveralPasses(SingleModel):
    """Artifact that queries several models and returns the last sampled answer."""

    def answer(self, deployment, examples):
        deployment.answer(Point({1: 5e-3}), examples)
        deployment.answer(Point(), examples, prompt="swapped")
        sampled = [deployment.answer(Point(), examples, Decoding(temperature=1.0, seed=s)) for s in (1, 2)]
        self.report["votes"] = sum(vote is not None for vote in deployment.votes(examples, sampled[0]))
        self.report["alike"] = sum(a == b for a, b in zip(*sampled, strict=True))
        return sampled[1]


class OmitsAnswer(Fixed):
    """Method whose artifact returns one answer too few."""

    def adapt(self, context):
        class Short(SingleModel):
            def answer(self, deployment, examples):
                return deployment.answer(self.point, examples)[:-1]

        return Short(Point())


class BooksElsewhere(Fixed):
    """Method that books its work to an account outside the budget."""

    def adapt(self, context):
        context.evaluate(Point({1: 1e-3}), "support", account="evaluation", examples=range(20))
        return SingleModel()


def config(method="corp", **fields):
    method = method if isinstance(method, str) else f"{__name__}:{method.__name__}"
    defaults = {"task": "addition", "model": "tiny-adder", "budget": "600", "limit": 60, "gate": "off"}
    return RunConfig(method=method, **(defaults | fields))


def run(tmp_path, method="corp", **fields):
    prepared = prepare(config(method, **fields), tmp_path, QUIET)
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def comparable(result):
    return result.model_copy(update={"timing": None})


def test_a_run_directory_contains_all_files(tmp_path):
    prepared, result = run(tmp_path, Fixed)
    assert result.status == "ok"
    assert prepared.folder.relative_to(tmp_path).parts[:2] == ("addition", "tiny-adder")
    assert {p.name for p in prepared.folder.iterdir()} >= {
        "config.json",
        "journal.jsonl",
        "attempts",
        "samples.jsonl",
        "artifact",
        "result.json",
    }
    assert comparable(read_result(prepared.folder)) == comparable(result)
    samples = [json.loads(line) for line in (prepared.folder / "samples.jsonl").read_text().splitlines()]
    assert [s["row"] for s in samples] == [0] * 60 + [1] * 60
    for number, row in enumerate(result.rows):
        assert sum(s["correct"] for s in samples if s["row"] == number) == row.accuracy.correct


def test_the_artifact_is_a_checkpoint_of_the_returned_point(tmp_path):
    prepared, _ = run(tmp_path, Fixed)
    saved = dict(AutoModelForCausalLM.from_pretrained(prepared.folder / "artifact").named_parameters())
    base = dict(AutoModelForCausalLM.from_pretrained(prepared.model.path).named_parameters())
    assert all((saved[name] != base[name]).any() for name in base)
    deviation = float((saved["model.embed_tokens.weight"] - base["model.embed_tokens.weight"]).detach().std())
    assert deviation == pytest.approx(5e-3, rel=0.1)


def test_the_ledger_adds_up(tmp_path):
    _, result = run(tmp_path, Fixed)
    rows = result.ledger
    assert rows["sample"].work.evaluations == rows["select"].work.evaluations == 20
    assert rows["inference"].work.evaluations == rows["evaluation"].work.evaluations == 60
    assert result.budget.spent == rows["sample"].flops + rows["select"].flops
    base, artifact = result.rows
    assert (base.work, artifact.work) == (rows["evaluation"].work, rows["inference"].work)
    assert artifact.cost.flops == pytest.approx(rows["inference"].flops / 60)
    assert artifact.cost.evaluations == 1
    assert result.budget.flops == int(600 * result.budget.evaluation_flops)
    assert rows["setup"].flops == pytest.approx(16 * result.budget.evaluation_flops)


def test_each_artifact_is_a_row_with_its_own_cost(tmp_path):
    prepared, result = run(tmp_path, Pair)
    _, one, three = result.rows
    assert (one.label, three.label) == ("one", "three")
    assert (one.cost.evaluations, three.cost.evaluations) == (1, 4)
    assert result.ledger["inference"].flops == pytest.approx(60 * (one.cost.flops + three.cost.flops))
    assert three.report["votes"] > 0
    assert 0 < three.report["alike"] < 60
    assert {p.name for p in (prepared.folder / "artifact").iterdir()} == {"one", "three"}
    samples = [json.loads(line) for line in (prepared.folder / "samples.jsonl").read_text().splitlines()]
    assert [s["row"] for s in samples] == [0] * 60 + [1] * 60 + [2] * 60
    assert sum(s["correct"] for s in samples if s["row"] == 2) == three.accuracy.correct


def test_the_base_method_equals_the_base_and_spends_nothing(tmp_path):
    _, result = run(tmp_path, "base")
    base, row = result.rows
    assert result.is_control
    assert row.accuracy == base.accuracy
    assert row.weights == base.weights == result.model.digest
    assert result.budget.spent == 0
    assert (row.comparison.fixes, row.comparison.regressions, row.comparison.p_value) == (0, 0, 1.0)
    assert result.ledger["inference"].flops == result.ledger["evaluation"].flops > 0


@pytest.mark.slow
def test_repeating_a_run_gives_an_identical_result(tmp_path):
    first, second = (run(tmp_path / name)[1] for name in ("a", "b"))
    assert comparable(first) == comparable(second)
    assert run(tmp_path / "c", seed=1)[1].report != first.report


@pytest.mark.parametrize("method", [Endless, IgnoresStop])
def test_a_method_is_stopped_at_its_budget_and_recorded_as_over_budget(tmp_path, method):
    prepared, result = run(tmp_path, method)
    assert result.status == "over_budget"
    assert result.budget.spent <= result.budget.flops
    assert result.budget.spent > 0.9 * result.budget.flops
    assert not result.rows
    assert finished(prepared) is not None


def test_a_method_that_raises_its_limit_is_detected(tmp_path):
    _, result = run(tmp_path, Tamperer)
    assert (result.status, result.rows) == ("over_budget", ())


@pytest.mark.parametrize(
    ("method", "reason"),
    [(ReadsTest, "may not read split 'test'"), (Exits, "SystemExit"), (OmitsAnswer, "59 answers to 60 examples")],
)
def test_a_forbidden_action_fails_the_run(tmp_path, method, reason):
    _, result = run(tmp_path, method)
    assert result.status == "failed"
    assert reason in result.reason
    assert not result.rows


def test_an_artifact_cannot_change_the_base_row_or_hide_its_own_change(tmp_path):
    _, honest = run(tmp_path, "base")
    _, result = run(tmp_path, Cheats)
    assert result.status == "ok"
    base, row = result.rows
    assert base.accuracy == honest.rows[0].accuracy
    assert row.changed
    assert row.weights is None  # two models were queried
    assert row.accuracy.accuracy < base.accuracy.accuracy
    assert row.cost.evaluations == pytest.approx(61 / 60)  # the extra query is booked to the artifact


def test_answers_that_could_not_be_judged_are_excluded_from_both_rows(tmp_path, monkeypatch):
    from tasks.addition import Addition
    from tasks.interface import Score

    def flaky(self, examples, texts):
        scores = [self.score(e, t) for e, t in zip(examples, texts, strict=True)]
        lost = Score(0.0, False, status="infrastructure")
        return [lost if len(texts) == 60 and i % 10 == 3 else s for i, s in enumerate(scores)]

    monkeypatch.setattr(Addition, "score_many", flaky)
    _, result = run(tmp_path, Fixed)
    base, row = result.rows
    for accuracy in (base.accuracy, row.accuracy):
        assert (accuracy.items, accuracy.excluded) == (54, 6)
    assert row.comparison.items == 54
    assert row.accuracy.accuracy - base.accuracy.accuracy == pytest.approx(row.comparison.difference)


@pytest.mark.slow
def test_corp_stage_two_is_journalled_and_resumes(tmp_path):
    settings = {"smallest_population": 3}
    prepared, uninterrupted = run(tmp_path, budget="6000", method_config=settings)
    assert uninterrupted.report["rounds"]
    lines = (prepared.folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (prepared.folder / "journal.jsonl").write_bytes(b"".join(lines[:-20]))
    (prepared.folder / "result.json").unlink()
    (prepared.folder / ".tmp-result.json.x").write_text("left by a killed process")
    assert comparable(execute(prepared, ProgressDisplay(quiet=True))) == comparable(uninterrupted)
    assert not list(prepared.folder.glob(".tmp-*"))


def test_a_method_can_book_to_adaptation_accounts_only(tmp_path):
    _, result = run(tmp_path, BooksElsewhere)
    assert result.status == "failed"
    assert "evaluation" in result.reason


def test_a_failed_run_records_its_traceback_and_can_be_run_again(tmp_path):
    prepared, result = run(tmp_path, Broken)
    where = f"test_runner.py, line {Broken.adapt.__code__.co_firstlineno + 2}, in adapt"
    assert (result.status, result.reason) == ("failed", f"ZeroDivisionError: on purpose ({where})")
    assert "adapt" in result.traceback
    assert finished(prepared) is None
    assert result.ledger["sample"].work.evaluations == 20


@pytest.mark.slow
def test_adapt_on_uses_the_other_tasks_prompts_and_scorer_for_adaptation_only(tmp_path):
    Turned.scored.clear()
    prepared, result = run(tmp_path, Fixed, adapt_on=f"{__name__}:Turned", limit=None)
    assert (result.status, result.rows[0].accuracy.items) == ("ok", 3800)
    assert result.splits == {"support": 20, "select": 20, "gate": 20, "test": 3800}
    assert (result.versions.task, result.versions.adapt_on) == ("1", "7")
    assert result.sandbox is not None  # required by the task adapted on, not by the test task
    assert prepared.folder.relative_to(tmp_path).parts[0] == f"{__name__}-Turned-to-addition"
    # Scored once for each split that the method evaluated, and never in the test.
    assert sorted(Turned.scored) == sorted(
        e.id for part in ("support", "select") for e in getattr(Turned().load(), part)
    )
    # Test prompts and answers are the same as in a run on the test task alone.
    single, _ = run(tmp_path, Fixed)
    samples = {
        name: {s["id"]: s for s in _samples(folder)}
        for name, folder in (("both", prepared.folder), ("one", single.folder))
    }
    assert all(samples["both"][i]["prompt_sha256"] == s["prompt_sha256"] for i, s in samples["one"].items())
    assert all(samples["both"][i]["text"] == s["text"] for i, s in samples["one"].items())


def _samples(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_an_interrupted_run_on_two_tasks_ends_like_an_uninterrupted_one(tmp_path):
    prepared, uninterrupted = run(tmp_path, Fixed, adapt_on=f"{__name__}:Turned")
    lines = (prepared.folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (prepared.folder / "result.json").unlink()
    for kept in (3, len(lines) - 2):
        (prepared.folder / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        assert comparable(resume_run(prepared.folder, ProgressDisplay(quiet=True)).result) == comparable(uninterrupted)
        (prepared.folder / "result.json").unlink()


def test_a_method_sees_no_test_example(tmp_path):
    _, result = run(tmp_path, Fixed)
    assert result.report["seen"] == ["gate", "select", "support"]


@pytest.mark.slow
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path):
    prepared, uninterrupted = run(tmp_path)
    journal = (prepared.folder / "journal.jsonl").read_bytes()
    lines = journal.splitlines(keepends=True)
    for kept in (0, 1, 2, len(lines) // 2, len(lines) - 2, len(lines) - 1):
        copy = tmp_path / f"kept-{kept}" / prepared.folder.relative_to(tmp_path)
        copy.mkdir(parents=True)
        shutil.copy(prepared.folder / "config.json", copy)
        (copy / "journal.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
        outcome = resume_run(copy, ProgressDisplay(quiet=True))
        assert comparable(outcome.result) == comparable(uninterrupted)
        assert (copy / "journal.jsonl").read_bytes().count(b"\n") == len(lines)
        assert (copy / "samples.jsonl").read_bytes() == (prepared.folder / "samples.jsonl").read_bytes()


def test_a_damaged_journal_is_an_error_that_changes_nothing(tmp_path):
    prepared, _ = run(tmp_path, Fixed)
    (prepared.folder / "result.json").unlink()
    path = prepared.folder / "journal.jsonl"
    damaged = path.read_bytes().replace(b'"rewards"', b'"rewarts"', 1)
    path.write_bytes(damaged)
    with pytest.raises(JournalDamaged, match="line 3"):
        execute(prepared, ProgressDisplay(quiet=True))
    assert path.read_bytes() == damaged


def test_a_run_of_an_earlier_version_stays_readable_and_is_not_continued(tmp_path):
    prepared, result = run(tmp_path, Fixed)
    path = prepared.folder / "journal.jsonl"
    earlier = b'aa7363d1 {"key":{"answer":"test 0","n":1},"value":{"texts":["42"]}}\n'
    path.write_bytes(earlier)
    again = resume_run(prepared.folder, QUIET)
    assert (again.cached, again.result, again.error) == (True, result, None)
    (prepared.folder / "result.json").unlink()
    before = sorted((prepared.folder / "attempts").iterdir())
    outcome = resume_run(prepared.folder, QUIET)
    assert isinstance(outcome.error, JournalOutdated)
    assert "start the run again" in str(outcome.error)
    assert path.read_bytes() == earlier
    assert sorted((prepared.folder / "attempts").iterdir()) == before


def test_a_changed_configuration_is_an_error_that_changes_nothing(tmp_path):
    prepared, _ = run(tmp_path, Fixed)
    (prepared.folder / "result.json").unlink()
    path = prepared.folder / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    journal = (prepared.folder / "journal.jsonl").read_bytes()
    outcome = resume_run(prepared.folder, ProgressDisplay(quiet=True))
    assert isinstance(outcome.error, UsageError)
    assert "changed" in str(outcome.error)
    assert (prepared.folder / "journal.jsonl").read_bytes() == journal


@pytest.mark.slow
def test_a_journal_of_other_weights_is_an_error(tmp_path):
    prepared, _ = run(tmp_path, Fixed)
    other, _ = run(tmp_path, Fixed, dtype="bfloat16")
    (prepared.folder / "result.json").unlink()
    shutil.copy(other.folder / "journal.jsonl", prepared.folder)
    result = execute(prepared, ProgressDisplay(quiet=True))
    assert result.status == "failed"
    assert "start a new run" in result.reason


def test_an_unwritable_output_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    prepared = prepare(config(Fixed), tmp_path / "file", QUIET)
    with pytest.raises(WriteFailed, match="file"):
        execute(prepared, ProgressDisplay(quiet=True))


MOMENTS = {
    "adapting": (Fixed, "adapt"),
    "testing": (Testing, "evaluate"),
    "saving samples": (test_split, "write_samples"),
    "saving an artifact": (SingleModel, "save"),
    "ending": (Attempt, "ended"),
    "hashing": (runner, "file_digest"),
    "saving the result": (runner, "write_atomically"),
}


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_folder_that_is_removed_during_the_run_is_an_error(tmp_path, monkeypatch, moment, replaced):
    prepared = prepare(config(Fixed), tmp_path, QUIET)
    once = getattr(*moment)

    def remove(*arguments, **named):
        shutil.rmtree(prepared.folder)
        if replaced:
            prepared.folder.mkdir()
            (prepared.folder / "journal.jsonl").write_text("")
        return once(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(*moment, remove)
        with pytest.raises(JournalRemoved, match=r"seed-0-\w+: the folder was removed or .*; start the run again"):
            execute(prepared, ProgressDisplay(quiet=True))
    assert not (prepared.folder / "result.json").exists()
    shutil.rmtree(prepared.folder, ignore_errors=True)
    assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"


def test_a_failed_write_ends_the_run_and_keeps_what_was_computed(tmp_path, monkeypatch):
    import bench.records.journal as module

    prepared = prepare(config(Fixed), tmp_path, QUIET)
    calls = iter(range(100))

    def full(_):
        if next(calls) >= 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(WriteFailed, match="No space left"):
        execute(prepared, ProgressDisplay(quiet=True))
    monkeypatch.undo()
    assert not (prepared.folder / "result.json").exists()
    assert comparable(execute(prepared, ProgressDisplay(quiet=True))) == comparable(
        run(tmp_path / "uninterrupted", Fixed)[1]
    )


def test_two_processes_cannot_execute_the_same_run(tmp_path):
    from filelock import FileLock

    prepared = prepare(config(Fixed), tmp_path, QUIET)
    prepared.folder.mkdir(parents=True)
    with FileLock(prepared.folder / ".lock"), pytest.raises(Refused, match="another process"):
        execute(prepared, ProgressDisplay(quiet=True))


@pytest.mark.parametrize(("given", "flops"), [("4e9flops", 4 * 10**9), ("4gflops", 4 * 10**9)])
def test_a_budget_in_flops_is_that_limit_and_the_evaluations_that_it_pays_for(tmp_path, given, flops):
    prepared, result = run(tmp_path, Fixed, budget=given, gate="harness")
    budget = result.budget
    assert (result.status, budget.name, budget.flops) == ("ok", given, flops)
    assert budget.evaluations == int(flops / budget.evaluation_flops)
    assert sum(budget.planned.values()) <= budget.evaluations
    assert reprice(result).budget.flops == flops
    other = prepare(config(Fixed, budget="4.0e9flops", gate="harness"), tmp_path, QUIET)
    assert other.id == prepared.id
    evaluations = prepare(config(Fixed, budget=str(budget.evaluations), gate="harness"), tmp_path, QUIET)
    assert evaluations.id != prepared.id


def test_a_budget_in_flops_stops_a_method_and_one_below_an_evaluation_is_refused(tmp_path):
    _, endless = run(tmp_path, Endless, budget="2e9flops")
    assert endless.status == "over_budget"
    assert endless.budget.spent <= 2 * 10**9
    _, refused = run(tmp_path, Fixed, budget="1000flops")
    assert refused.status == "refused"
    assert re.search(r"--budget 1000flops: 1e\+03 FLOPs, and one evaluation .* costs .*; give a larger", refused.reason)


def test_a_budget_of_device_time_is_converted_once_and_a_resumed_run_keeps_its_flops(tmp_path):
    prepared, result = run(tmp_path, Fixed, budget="2s")
    assert result.budget.flops > 20 * result.budget.evaluation_flops
    assert reprice(result).budget == result.budget
    (prepared.folder / "result.json").unlink()
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    (timed,) = (i for i, line in enumerate(lines) if json.loads(line).get("key", {}).get("timed"))
    journal.write_bytes(b"".join(lines[: timed + 1]))
    again = execute(prepared, ProgressDisplay(quiet=True))
    assert again.budget == result.budget
    assert comparable(again) == comparable(result)


def test_a_time_without_its_measurement_is_measured_again_and_not_taken_from_recalled_answers(tmp_path):
    prepared, _ = run(tmp_path, Fixed, budget="2s")
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    (timed,) = (i for i, line in enumerate(lines) if json.loads(line).get("key", {}).get("timed"))
    seconds = json.loads(lines[timed])["value"]["seconds"]
    journal.write_bytes(b"".join(lines[:timed]))
    (prepared.folder / "result.json").unlink()
    execute(prepared, ProgressDisplay(quiet=True))
    measured = json.loads(journal.read_bytes().splitlines()[timed])["value"]["seconds"]
    assert seconds / 50 < measured < 50 * seconds
