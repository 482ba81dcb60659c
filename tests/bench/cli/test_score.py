import json

import pytest
from click.testing import CliRunner

from bench.cli.score import sandbox_run, score
from bench.errors import Refused, UsageError
from bench.sandbox import host
from bench.sandbox.probe import Strength
from tasks.humaneval import HumanEval

TEST = "def check(candidate):\n    assert candidate(2) == 3\n"
ROWS = [
    {"name": "right", "code": "def f(x):\n    return x + 1\n", "test": TEST, "entry_point": "f"},
    {"name": "wrong", "code": "def f(x):\n    return x\n", "test": TEST, "entry_point": "f"},
    {"name": "slow", "code": "def f(x):\n    while True: pass\n", "test": TEST, "entry_point": "f", "timeout": 0.5},
    {"name": "gone", "code": "import os\ndef f(x):\n    os._exit(0)\n", "test": TEST, "entry_point": "f"},
]


@pytest.fixture
def write(tmp_path):
    def written(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return str(path)

    return written


def run(command, *arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_each_program_has_one_line_in_order(write):
    outcome = run(sandbox_run, write(ROWS), "--json")
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [line["name"] for line in lines] == ["right", "wrong", "slow", "gone"]
    assert [line["passed"] for line in lines] == [True, False, False, False]
    assert [line["status"] for line in lines][:3] == ["passed", "failed", "timeout"]
    assert set(lines[0]) == {"name", "status", "passed", "seconds", "detail", "level"}
    assert "1 of 4 passed" in outcome.stderr


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"code": "", "test": ""}, "line 2: field 'entry_point' is missing"),
        ({**ROWS[0], "code": 3}, "line 2: field 'code' is 3"),
        ({**ROWS[0], "timeout": "soon"}, "line 2: field 'timeout' is 'soon'"),
        ({**ROWS[0], "timeout": -1}, "line 2: timeout: -1"),
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: found list, expected a JSON object"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_its_line(write, row, message):
    with pytest.raises(UsageError, match=message):
        run(sandbox_run, write([ROWS[0], row]))


def test_a_weak_sandbox_is_refused(write, monkeypatch):
    weak = Strength({"split": None, "rlimits": None, "landlock": "absent", "seccomp": "absent"})
    monkeypatch.setattr(host, "probe", lambda: weak)
    monkeypatch.setattr(host, "_pool", None)
    with pytest.raises(Refused, match="--allow-unsandboxed"):
        run(sandbox_run, write(ROWS))


def test_completions_from_a_file_are_scored(write):
    examples = HumanEval().load().test[:3]
    rows = [{"task_id": e.id, "completion": e.fields["canonical_solution"]} for e in examples]
    rows.append({"task_id": examples[0].id, "completion": "    return None\n"})
    data = json.loads(run(score, "-t", "humaneval", "--completions", write(rows), "--json").stdout)
    assert [answer["correct"] for answer in data["answers"]] == [True, True, True, False]
    assert (data["summary"]["accuracy"], data["summary"]["examples"], data["summary"]["of"]) == (0.75, 3, 164)
    text = run(score, "-t", "humaneval", "--completions", write(rows)).stdout
    assert "accuracy 75.0 %" in text
    assert text.count("right") == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"task_id": "HumanEval/999", "completion": ""}],
            '"HumanEval/999" is not an example of humaneval; expected one such',
        ),
        ([{"task_id": "HumanEval/1"}], "field 'completion' is missing"),
        ([], "the file has no rows"),
    ],
)
def test_an_invalid_completion_is_an_error_that_names_it(write, rows, message):
    with pytest.raises(UsageError, match=message):
        run(score, "-t", "humaneval", "--completions", write(rows))
