"""FLOPs of a record, computed again from its raw counts."""

import json

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.compute import flops, ledger
from bench.errors import Refused
from bench.records import pricing
from bench.records.pricing import flops_of, reprice
from bench.records.schema import RunConfig, read_result
from bench.run import prepare as preparation
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from methods.interface import Choices, Method, MethodConfig, Plan, PlanLine, SingleModel, setting


class Moved(Method):
    """Method that evaluates one point and returns another."""

    name = "moved"
    version = "1"

    def plan(self, evaluations, task):
        return Plan(())

    def adapt(self, context):
        context.evaluate(Point({1: 1e-3}), "support", account="sample", examples=range(20))
        return SingleModel(Point({1: 5e-2}))


class Config(MethodConfig):
    start: int = setting(1, "Seed of the point.")


class Tunable(Moved):
    """The same method with a setting to tune, and a plan, without which trials would have nothing to spend."""

    name, Config, space = "tunable", Config, {"start": Choices((1, 2))}

    def plan(self, evaluations, task):
        return Plan((PlanLine("sample", "one point", evaluations),))


def run(folder, method=Moved, **fields):
    given = {"method": f"{__name__}:{method.__name__}", "task": "addition", "model": "tiny-adder", "limit": 8}
    config = RunConfig(**({"budget": "64"} | given | fields))
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


@pytest.fixture
def other_formula(monkeypatch):
    """Return a function that installs another version of the FLOPs formula, one in which heads cost nothing."""
    forward = ledger.forward_flops

    def headless(profile, *, tokens, head_tokens, attended):
        return forward(profile, tokens=tokens, head_tokens=0, attended=3 * attended)

    def install():
        monkeypatch.setattr(ledger, "forward_flops", headless)
        for module in (flops, pricing, preparation):
            monkeypatch.setattr(module, "FLOPS_VERSION", 99)

    return install


def test_repricing_under_the_present_formula_changes_nothing(tmp_path):
    _, result = run(tmp_path)
    assert result.status == "ok", result.traceback
    assert reprice(result) == result


@pytest.mark.parametrize("strategy", ["greedy", "maj@2", "pass@2"])
def test_a_repriced_record_equals_that_of_a_fresh_run_under_the_other_formula(tmp_path, other_formula, strategy):
    _, old = run(tmp_path / "old", strategy=strategy)
    other_formula()
    _, fresh = run(tmp_path / "fresh", strategy=strategy)
    repriced = reprice(old)
    assert flops_of(repriced).items() >= {"budget.spent": fresh.budget.spent}.items()
    assert flops_of(repriced) == flops_of(fresh) != flops_of(old)
    changed = {"id": fresh.id, "timing": None}
    assert repriced.model_copy(update=changed) == fresh.model_copy(update=changed)


def test_all_fields_with_flops_are_repriced(tmp_path):
    _, result = run(tmp_path, strategy="pass@2")

    def names(value, path=""):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inner, dict | list):
                yield from names(inner, f"{path}{key}.")
            elif "flops" in str(key) or str(key) == "spent":
                yield f"{path}{key}"

    figures = result.model_dump(mode="json", exclude={"versions", "report"})
    assert set(names(figures)) == set(flops_of(result))


def test_the_total_of_tuning_is_repriced_and_its_trials_stay(tmp_path, other_formula):
    _, old = run(tmp_path, Tunable, tune=2, budget="1200")
    assert old.tuning.flops > 0
    assert reprice(old) == old
    other_formula()
    repriced = reprice(old)
    assert repriced.tuning.flops == repriced.ledger["tune"].flops != old.tuning.flops
    assert flops_of(repriced)["tuning.flops"] == repriced.tuning.flops
    assert repriced.tuning.trials == old.tuning.trials


def test_the_command_prints_old_and_new_figures(tmp_path, other_formula):
    prepared, result = run(tmp_path)
    other_formula()
    arguments = ["show", str(prepared.folder), "--reprice"]
    found = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert found["flops_version"] == {"recorded": result.versions.flops, "repriced": 99}
    spent = found["figures"]["budget.spent"]
    assert spent == {"recorded": result.budget.spent, "repriced": reprice(result).budget.spent}
    text = CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout
    assert f"{spent['repriced']:.6g}" in text
    assert read_result(prepared.folder) == result  # the record is not changed


def test_a_record_of_an_earlier_version_is_priced_by_its_shape(tmp_path):
    _, result = run(tmp_path)
    assert result.model.profile == result.model.shape.profile()
    before = result.model_copy(update={"model": result.model.model_copy(update={"profile": None})})
    assert flops_of(reprice(before)) == flops_of(result)


def test_a_record_without_costs_is_refused(tmp_path):
    _, result = run(tmp_path)
    model = result.model.model_copy(update={"shape": None, "profile": None})
    with pytest.raises(Refused, match="lacks the model's costs"):
        reprice(result.model_copy(update={"model": model}))
