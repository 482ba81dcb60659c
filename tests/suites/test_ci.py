import json
from pathlib import Path

from click.testing import CliRunner

from bench.cli import cli
from bench.registry import BUILT_IN

SUITE = Path(__file__).parents[2] / "suites" / "ci.toml"


def test_the_suite_asks_every_method_on_two_tasks_and_none_is_refused():
    outcome = CliRunner().invoke(cli, ["plan", "-C", str(SUITE), "-s", "0", "--json"], catch_exceptions=False)
    plans = json.loads(outcome.stdout)["plans"]
    asked = {(plan["method"], plan["task"]) for plan in plans}
    assert asked == {(method, task) for method in BUILT_IN["method"] for task in ("addition", "modular-addition")}
    assert [plan["refused"] for plan in plans] == [None] * len(asked)
