import json
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.registry import BUILT_IN, load_method

METHODS = BUILT_IN["method"].keys() - {"landscape"}  # a diagnostic method, which returns the base
MAIN = {
    *("base", "self-consistency", "best-of-n", "prompt-search", "prompted-self-consistency"),
    *("corp", "randopt", "es", "sft", "grpo", "ppo", "cat"),
}
"""Methods of the main comparison. All others stand in the suite of papers, beside those of `REFERENCES`."""
REFERENCES = {"base", "sft", "grpo"}
SUITES = Path(__file__).parents[2] / "suites"


@cache
def plans(name: str) -> list[dict]:
    """Return the plans of a suite with seed 0, for the model tiny-adder, which needs no download."""
    arguments = ["plan", "-C", str(SUITES / f"{name}.toml"), "-M", "tiny-adder", "-s", "0", "--json"]
    with mock.patch("bench.engines.local.max_positions", return_value=None):  # the suites' models have more positions
        return json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)["plans"]


@pytest.mark.parametrize(
    ("name", "tasks"), [("ci", ("addition", "modular-addition")), ("smollm2", ("successor", "tenfold"))]
)
def test_a_suite_runs_the_main_methods_on_two_tasks_without_refusals(name, tasks):
    found = plans(name)
    assert {(plan["method"], plan["task"]) for plan in found} == {(m, t) for m in MAIN for t in tasks}
    assert {plan["refused"] for plan in found} == {None}


def test_every_other_method_is_in_the_suite_of_papers():
    assert {plan["method"] for plan in plans("papers")} == (METHODS - MAIN) | REFERENCES


@pytest.mark.parametrize("name", ["ci-tuned", "stage2", "papers", "papers-tuned"])
def test_a_suite_is_refused_nothing(name):
    assert {plan["refused"] for plan in plans(name)} == {None}


@pytest.mark.parametrize("name", ["ci", "papers"])
def test_every_method_with_settings_to_tune_is_in_the_tuned_suite(name):
    tunable = {plan["method"] for plan in plans(name) if load_method(plan["method"]).space}
    assert {plan["method"] for plan in plans(f"{name}-tuned")} == tunable


def test_nothing_in_the_suite_of_qwen_is_refused():
    assert [plan["refused"] for plan in plans("qwen")] == [None] * 4
