import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.registry import BUILT_IN

SUITES = Path(__file__).parents[2] / "suites"


def plans(name: str) -> list[dict]:
    """What a suite asks for, on a model that is always there."""
    asked = ["plan", "-C", str(SUITES / f"{name}.toml"), "-M", "tiny-adder", "-s", "0", "--json"]
    return json.loads(CliRunner().invoke(cli, asked, catch_exceptions=False).stdout)["plans"]


@pytest.mark.parametrize(
    ("name", "tasks"), [("ci", ("addition", "modular-addition")), ("smollm2", ("successor", "tenfold"))]
)
def test_a_suite_asks_every_method_on_two_tasks_and_none_is_refused(name, tasks):
    found = plans(name)
    built_in = BUILT_IN["method"].keys() - {"landscape"}  # a diagnostic: what it returns is the base
    assert {(plan["method"], plan["task"]) for plan in found} == {(m, t) for m in built_in for t in tasks}
    assert {plan["refused"] for plan in found} == {None}


def test_nothing_in_the_suite_of_qwen_is_refused():
    assert [plan["refused"] for plan in plans("qwen")] == [None] * 4
