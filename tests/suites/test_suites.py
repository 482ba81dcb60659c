import json
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.registry import BUILT_IN, load_method

NEEDS_A_FILE = {"drpt"}
"""Methods that a suite does not run, because they need a file of one's own."""
SUITES = Path(__file__).parents[2] / "suites"


def plans(name: str) -> list[dict]:
    """Return the plans of a suite with seed 0, for the model tiny-adder, which needs no download."""
    arguments = ["plan", "-C", str(SUITES / f"{name}.toml"), "-M", "tiny-adder", "-s", "0", "--json"]
    with mock.patch("bench.engines.local.max_positions", return_value=None):  # the suites' models have more positions
        return json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)["plans"]


@pytest.mark.parametrize(
    ("name", "tasks"), [("ci", ("addition", "modular-addition")), ("smollm2", ("successor", "tenfold"))]
)
def test_a_suite_runs_every_method_on_two_tasks_without_refusals(name, tasks):
    found = plans(name)
    diagnostic = {"landscape"}  # it returns the base
    built_in = BUILT_IN["method"].keys() - diagnostic - NEEDS_A_FILE
    assert {(plan["method"], plan["task"]) for plan in found} == {(m, t) for m in built_in for t in tasks}
    assert {plan["refused"] for plan in found} == {None}


@pytest.mark.parametrize("name", ["ci-tuned", "stage2"])
def test_a_tuned_suite_is_refused_nothing(name):
    assert {plan["refused"] for plan in plans(name)} == {None}


def test_every_method_with_settings_to_tune_is_in_the_tuned_suite():
    tunable = {name for name in BUILT_IN["method"] if load_method(name).space} - NEEDS_A_FILE
    assert {plan["method"] for plan in plans("ci-tuned")} == tunable


def test_nothing_in_the_suite_of_qwen_is_refused():
    assert [plan["refused"] for plan in plans("qwen")] == [None] * 4
