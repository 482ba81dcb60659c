import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import cli
from bench.errors import BenchError, UsageError

EXAM = Path(__file__).parents[1] / "exam"
ROWS = Path(__file__).parents[2] / "tasks" / "data"


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments], standalone_mode=False)


def test_a_certificate_is_printed_and_the_exit_status_is_0() -> None:
    result = bench("-t", "addition", "-L", "8")
    assert result.return_value == 0
    assert "addition, version 1, content " in result.stdout
    assert "passed; answers to 8 examples were scored" in result.stdout


def test_a_failed_exam_has_exit_status_1_and_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAM)
    result = bench("-t", "candidates:Hasty", "-L", "8")
    assert result.return_value == 1
    assert "1 of 12 checks failed" in result.stdout


def test_json_has_every_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAM)
    result = bench("-t", "candidates:Leaky", "-L", "8", "--json")
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
