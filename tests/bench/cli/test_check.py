import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import cli
from bench.errors import BenchError, UsageError

CONFORMANCE = Path(__file__).parents[1] / "conformance"
ROWS = Path(__file__).parents[2] / "tasks" / "data"


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments], standalone_mode=False)


def test_a_passing_task_prints_its_report_and_exits_with_0() -> None:
    result = bench("-t", "addition", "-L", "8")
    assert result.return_value == 0
    assert "addition, version 1, content " in result.stdout
    assert "passed; scored answers to 8 examples" in result.stdout


def test_a_failing_task_prints_the_failed_check_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONFORMANCE)
    result = bench("-t", "faulty_tasks:AcceptsPrefix", "-L", "8")
    assert result.return_value == 1
    assert "1 of 12 checks failed" in result.stdout


def test_json_contains_every_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONFORMANCE)
    result = bench("-t", "faulty_tasks:LeaksAnswer", "-L", "8", "--json")
    found = json.loads(result.stdout)
    assert (result.return_value, found["passed"], found["examined"]) == (1, False, 8)
    assert {f["check"]: f["passed"] for f in found["findings"] if f["passed"] is not True} == {"leaks": False}
    assert found["splits"] == {"support": 20, "select": 10, "gate": 10, "test": 20}


def test_rows_are_read_from_a_file() -> None:
    result = bench("-t", "rocstories", "--data", str(ROWS / "rocstories.jsonl"), "-L", "4")
    assert result.return_value == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["-t", "additon"], UsageError, "did you mean 'addition'"),
        (["-t", "rg:<generator>"], UsageError, "write a name in place of <generator>"),
        (["-t", "rocstories"], BenchError, "--data FILE"),
    ],
)
def test_a_task_that_cannot_be_loaded_is_an_error(arguments: list[str], error: type[Exception], message: str) -> None:
    result = bench(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


@pytest.mark.slow
def test_the_report_of_a_method_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = bench("-m", "base", "-b", "64")
    assert result.return_value == 0
    assert result.stdout.startswith("base, version 1\n")
    assert "other seed   -       the method uses no randomness" in result.stdout
    assert "passed; tiny-adder on addition, 64 evaluations per run" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_failing_method_exits_with_1_and_an_unknown_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONFORMANCE / "method")
    result = bench("-m", "faulty_methods:Crashing", "--json")
    found = json.loads(result.stdout)
    assert (result.return_value, found["passed"], found["settings"]) == (1, False, {})
    assert [f["check"] for f in found["findings"] if f["passed"] is False] == ["end"]
    with pytest.raises(UsageError, match="no method of this run has a setting 'sigma'"):
        raise bench("-m", "base", "--set", "sigma=1").exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of -t TASK and -m METHOD"),
        (["-t", "addition", "-m", "base"], "give one of -t TASK and -m METHOD"),
        (["-t", "addition", "--set", "lr=1"], "--set: applies to the check of a method only"),
        (["-t", "addition", "-b", "256"], "--budget: applies to the check of a method only"),
        (["-m", "base", "--data", __file__], "--data: applies to the check of a task only"),
        (["-m", "base", "-L", "40"], "--limit: applies to the check of a task only"),
        (["-m", "base", "--allow-unsandboxed"], "--allow-unsandboxed: applies to the check of a task only"),
    ],
)
def test_exactly_one_of_task_and_method_is_checked_with_its_own_options(arguments: list[str], message: str) -> None:
    error = bench(*arguments).exception
    assert isinstance(error, UsageError)
    assert message in str(error)
