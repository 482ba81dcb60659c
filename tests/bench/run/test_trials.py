"""Tuned runs, end to end with tiny-adder."""

import json
import shutil

import pytest
from pydantic import model_validator

from bench.compute.meter import AllowanceSpent, OverBudget
from bench.errors import Refused
from bench.records.config import RunConfig
from bench.records.schema import read_result
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.tuning import TUNING_SHARE
from bench.settings import setting
from bench.weights.points import Point
from methods.interface import Choices, Decoding, Dimension, Diverged, Method, MethodConfig, Plan, PlanLine, SingleModel

QUIET = ProgressDisplay(quiet=True)
TUNED = {"budget": "10000", "tune": 5, "limit": 40}


class Config(MethodConfig):
    mode: str = setting("plain", "How the method behaves.")


class Moody(Method):
    """Method that does what its setting says. Its published setting breaks the model."""

    name, version, Config, variants = "moody", "1", Config, ()
    space = {"mode": Choices(("base", "endless", "diverges", "refuses"))}  # noqa: RUF012

    def plan(self, evaluations, task):
        return Plan((PlanLine("sample", "what it likes", evaluations),))

    def adapt(self, context):
        mode = self.config.mode
        context.report["mode"] = mode
        context.evaluate(Point({context.seed: 1e-3}), "support", account="sample", examples=range(20))
        if mode == "diverges":
            raise Diverged("loss is nan at step 3")
        if mode == "refuses":
            raise Refused("no luck")
        while mode == "endless":
            context.evaluate(Point({1: 1e-3}), "support", account="train", examples=range(10))
        return SingleModel(Point() if mode == "base" else Point({1: 5e-2}))


class Hopeless(Moody):
    """Method whose trials all fail, but whose final run may do."""

    space = {"mode": Choices(("endless", "diverges"))}  # noqa: RUF012

    def adapt(self, context):
        if context.budget < 2000 * context.evaluation_flops:
            raise Diverged("too little")
        return super().adapt(context)


class Fades(Moody):
    """Method whose trials of the last rung all fail. Smaller trials and the final run do not."""

    def adapt(self, context):
        if 400 < context.budget / context.evaluation_flops < 1000:
            raise Diverged("too much")
        return super().adapt(context)


class Guesses(Moody):
    """Method with an artifact that guesses all answers when it may not spend more."""

    def adapt(self, context):
        class Guess(SingleModel):
            def answer(self, deployment, examples):
                try:
                    for seed in range(20):
                        deployment.answer(self.point, examples, Decoding(temperature=1.0, seed=seed))
                except AllowanceSpent:
                    return ["7"] * len(examples)
                return super().answer(deployment, examples)

        super().adapt(context)
        return Guess(Point({1: 5e-2})) if self.config.mode == "base" else SingleModel(Point({1: 5e-2}))


class Numbers(Moody):
    """Method with an artifact whose answers are no texts."""

    def adapt(self, context):
        class Number(SingleModel):
            def answer(self, deployment, examples):
                return [7] * len(examples)

        super().adapt(context)
        return Number(Point())


class CrossedConfig(MethodConfig):
    low: float = setting(0.1, "Lower end of a range.")
    high: float = setting(0.9, "Upper end of a range.")

    @model_validator(mode="after")
    def _ordered(self):
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        return self


class Crossed(Moody):
    """Method with two settings whose ranges overlap, so that some combinations are impossible."""

    name, Config = "crossed", CrossedConfig
    space = {"low": Dimension(0.01, 0.89, "linear"), "high": Dimension(0.11, 1.0, "linear")}  # noqa: RUF012

    def adapt(self, context):
        context.report["low"] = self.config.low
        context.evaluate(Point({1: 1e-3}), "support", account="sample", examples=range(5))
        return SingleModel(Point({1: 1e-3}))


class Bypasses(Moody):
    """Method that raises its own budget limit, or continues after it was stopped."""

    space = {"mode": Choices(("raises", "ignores"))}  # noqa: RUF012

    def adapt(self, context):
        if self.config.mode == "raises":
            context._evaluator.meter.limit = 10**30
            context.evaluate(Point({1: 1e-3}), "support", account="sample")
        if self.config.mode == "ignores":
            with pytest.raises(OverBudget):
                context.evaluate(Point({1: 1e-3}), "support", account="sample")
        return SingleModel(Point({1: 5e-2}))


class Breaks(Moody):
    """Method with a bug in one of its modes."""

    space = {"mode": Choices(("base", "bug"))}  # noqa: RUF012

    def adapt(self, context):
        return 1 // (self.config.mode != "bug") and super().adapt(context)


def run(folder, method, **fields):
    method = method if isinstance(method, str) else f"{__name__}:{method.__name__}"
    config = RunConfig(method=method, **({"task": "addition", "model": "tiny-adder"} | TUNED | fields))
    prepared = prepare(config, folder, QUIET)
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


@pytest.fixture(scope="module")
def moody(tmp_path_factory):
    return run(tmp_path_factory.mktemp("moody"), Moody)


def by_mode(result):
    return {trial.settings.get("mode", "plain"): trial for trial in result.tuning.trials if trial.rung == 1}


def test_the_best_trial_on_the_select_split_decides_the_final_run(moody):
    _, result = moody
    assert result.status == "ok"
    assert result.ruleset == "tuned 5"
    first = by_mode(result)
    assert set(first) == {"plain", "base", "endless", "diverges", "refuses"}
    assert first["plain"].trial == 0
    assert first["plain"].score < first["base"].score
    assert [trial.rung for trial in result.tuning.trials] == [1, 1, 1, 1, 1, 2, 2, 2, 3, 3]
    assert {trial.items for trial in result.tuning.trials if trial.rung == 1} == {0, 40}
    assert (result.tuning.chosen, result.tuning.trial) == ({"mode": "base"}, first["base"].trial)
    assert result.report["mode"] == "base", "the final run's"
    assert result.config.method_config == {"mode": "plain"}, "as given"
    assert result.rows[0].accuracy == result.rows[1].accuracy


def test_a_trial_that_fails_is_on_record_with_its_reason_and_does_not_end_the_run(moody):
    _, result = moody
    failed = {mode: trial for mode, trial in by_mode(result).items() if trial.score is None}
    adapting = (258 - 51) * result.budget.evaluation_flops
    assert failed["endless"].reason.startswith("stopped at its budget: the next step costs")
    assert failed["endless"].reason.endswith(f"of {adapting:.3g} are left")
    assert failed["diverges"].reason == "loss is nan at step 3"
    assert failed["refuses"].reason == "no luck"
    assert {(trial.items, trial.reward) for trial in failed.values()} == {(0, None)}
    reports = {(r["rung"], r["trial"]): r["report"]["mode"] for r in result.report["tuning"]["trials"]}
    assert reports == {(t.rung, t.trial): t.settings.get("mode", "plain") for t in result.tuning.trials}


def test_tuning_is_billed_to_its_own_account_and_to_at_most_half_of_the_budget(moody):
    _, result = moody
    tuning, budget = result.tuning, result.budget
    assert result.ledger["tune"].flops == tuning.flops == sum(trial.flops for trial in tuning.trials)
    assert tuning.flops <= TUNING_SHARE * budget.flops
    assert all(trial.flops <= trial.evaluations * budget.evaluation_flops for trial in tuning.trials)
    assert by_mode(result)["endless"].flops > 0.7 * by_mode(result)["endless"].evaluations * budget.evaluation_flops
    assert result.ledger["sample"].work.evaluations == 20, "the final run's alone"
    assert "train" not in result.ledger
    assert budget.spent == sum(row.flops for name, row in result.ledger.items() if name in ("tune", "sample", "gate"))


def test_trials_are_drawn_from_the_seed(moody, tmp_path):
    _, other = run(tmp_path, Moody, seed=1)
    assert [t.settings for t in other.tuning.trials[:5]] != [t.settings for t in moody[1].tuning.trials[:5]]
    assert by_mode(other)["base"].score != by_mode(moody[1])["base"].score, "other select examples"


@pytest.mark.parametrize("kept", [0.1, 0.4, 0.7, 0.95])
def test_a_tuned_run_resumes_to_the_same_record(moody, tmp_path, kept):
    prepared, result = moody
    folder = tmp_path / "runs"
    shutil.copytree(prepared.folder.parents[4], folder)
    (run_folder,) = (path.parent for path in folder.rglob("result.json"))
    lines = (run_folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run_folder / "journal.jsonl").write_bytes(b"".join(lines[: int(kept * len(lines))]))
    (run_folder / "result.json").unlink()
    again, resumed = run(folder, Moody)
    assert again.folder == run_folder
    assert resumed.model_dump(exclude={"timing"}) == result.model_dump(exclude={"timing"})
    assert read_result(run_folder).tuning == result.tuning
    keys = [json.loads(line)["key"] for line in (run_folder / "journal.jsonl").read_bytes().splitlines()]
    assert keys == [json.loads(line)["key"] for line in lines], "nothing was computed twice"


def test_the_published_setting_is_kept_if_every_trial_fails(tmp_path):
    _, result = run(tmp_path, Hopeless)
    assert {trial.reason for trial in result.tuning.trials} == {"too little"}
    assert (result.status, result.tuning.trial, result.tuning.chosen) == ("ok", 0, {})
    assert result.report["mode"] == "plain"


def test_the_latest_rung_with_a_score_decides(tmp_path):
    _, result = run(tmp_path, Fades)
    last = [trial for trial in result.tuning.trials if trial.rung == 3]
    assert [trial.reason for trial in last] == ["too much"] * 2
    best = by_mode(result)["base"].trial
    assert (result.tuning.trial, result.tuning.chosen) == (best, {"mode": "base"})
    assert best > 0
    assert result.report["mode"] == "base"


def test_guesses_beyond_the_budget_are_no_score(tmp_path):
    _, result = run(tmp_path, Guesses)
    reason = "its answers to 40 select examples cost more than was left for them"
    assert by_mode(result)["base"].reason == reason
    assert by_mode(result)["plain"].score is not None


def test_answers_that_are_no_texts_fail_the_run_with_the_methods_name(tmp_path):
    _, result = run(tmp_path, Numbers, tune=2, budget="1200")
    assert result.status == "failed"
    assert result.reason == "method moody: its artifact gave 36 answers to 36 examples; return one text per example"


def test_an_impossible_combination_of_settings_fails_its_trial_alone(tmp_path):
    _, result = run(tmp_path, Crossed)
    assert result.status == "ok"
    first = [trial for trial in result.tuning.trials if trial.rung == 1]
    impossible = [t for t in first if t.settings and t.settings["low"] >= t.settings["high"]]
    assert 0 < len(impossible) < 4
    for trial in impossible:
        assert trial.reason.startswith(f'method crossed: {{"low": {trial.settings["low"]}, "high": ')
        assert trial.reason.endswith("low must be less than high")
        assert (trial.score, trial.flops) == (None, 0)
    assert all(trial.score is not None for trial in first if trial not in impossible)


def test_a_trial_that_bypasses_the_meter_is_not_chosen(tmp_path):
    _, result = run(tmp_path, Bypasses, tune=3, budget="1200")
    reasons = {mode: trial.reason for mode, trial in by_mode(result).items()}
    bypassed = "stopped at its budget: the method continued after it was stopped, or bypassed the meter"
    assert reasons == {"plain": None, "raises": bypassed, "ignores": bypassed}
    assert result.tuning.trial == 0


def test_a_bug_in_a_trial_fails_the_run(tmp_path):
    _, result = run(tmp_path, Breaks)
    assert result.status == "failed"
    assert "ZeroDivisionError" in result.reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"method": "base"}, "method base has nothing to tune"),
        ({"method": "es", "budget": "600"}, "which is too little: es cannot use a budget of"),
        (
            {"method": "grpo", "launch": {"num_processes": 2, "distributed_type": "MULTI_GPU"}},
            "--tune 5 trains in each of its trials, and --launch has processes for the training of the run alone",
        ),
    ],
)
def test_a_tuned_run_that_cannot_be_made_is_refused_with_the_reason(tmp_path, fields, reason):
    _, result = run(tmp_path, **fields)
    assert result.status == "refused"
    assert reason in result.reason


def test_es_spends_its_budget_on_tuning_and_the_final_run(tmp_path):
    _, result = run(tmp_path, "es", budget="1000", tune=2, gate="off")
    assert result.status == "ok"
    assert 0.99 <= result.budget.spent / result.budget.flops <= 1
    assert result.tuning.flops + result.ledger["sample"].flops == result.budget.spent
    assert set(result.tuning.trials[1].settings) == {"sigma", "step"}
    assert result.report["sigma"] == result.tuning.chosen.get("sigma", 1e-3)


@pytest.mark.slow
def test_grpo_trains_in_every_trial_and_in_the_final_run(tmp_path):
    prepared, result = run(tmp_path, "grpo", budget="3000", tune=3, gate="off")
    assert result.status == "ok"
    reports = [each["report"] for each in result.report["tuning"]["trials"]]
    assert len(reports) == 5
    assert len({report["training"]["seed"] for report in reports}) == 3, "one for each trial, in every rung"
    assert all(report["training"]["steps"] > 0 for report in reports)
    final = result.report["training"]
    assert final["flops"] == result.ledger["train"].flops
    assert final["steps"] > max(report["training"]["steps"] for report in reports)
    assert {path.name for path in (prepared.folder / "training").iterdir()} == {"finished"}, "trials leave nothing"
    assert result.tuning.flops + result.ledger["train"].flops == result.budget.spent
    assert result.budget.spent > 0.95 * result.budget.flops
