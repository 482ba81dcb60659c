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


def test_a_certificate_is_printed_and_the_exit_status_is_0() -> None:
    result = bench("-t", "addition", "-L", "8")
    assert result.return_value == 0
    assert "addition, version 1, content " in result.stdout
    assert "passed; answers to 8 examples were scored" in result.stdout


def test_a_failed_exam_has_exit_status_1_and_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONFORMANCE)
    result = bench("-t", "faulty_tasks:Hasty", "-L", "8")
    assert result.return_value == 1
    assert "1 of 12 checks failed" in result.stdout


def test_json_has_every_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONFORMANCE)
    result = bench("-t", "faulty_tasks:Leaky", "-L", "8", "--json")
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
def test_what_cannot_be_examined_is_an_error(arguments: list[str], error: type[Exception], message: str) -> None:
    result = bench(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_a_methods_certificate_is_printed_and_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = bench("-m", "base", "-b", "64")
    assert result.return_value == 0
    assert result.stdout.startswith("base, version 1\n")
    assert "other seed   -       it draws nothing" in result.stdout
    assert "passed; tiny-adder on addition, 64 evaluations a run" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_method_that_fails_has_exit_status_1_and_its_settings_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
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
        (["-t", "addition", "--set", "lr=1"], "--set: belongs to the exam of a method"),
        (["-t", "addition", "-b", "256"], "--budget: belongs to the exam of a method"),
        (["-m", "base", "--data", __file__], "--data: belongs to the exam of a task"),
        (["-m", "base", "-L", "40"], "--limit: belongs to the exam of a task"),
        (["-m", "base", "--allow-unsandboxed"], "--allow-unsandboxed: belongs to the exam of a task"),
    ],
)
def test_one_of_task_and_method_is_examined(arguments: list[str], message: str) -> None:
    error = bench(*arguments).exception
    assert isinstance(error, UsageError)
    assert message in str(error)
