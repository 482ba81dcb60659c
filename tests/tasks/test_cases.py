"""Replies and answers of the kinds that public reports are about, each with the verdict that a person would give.

Rows of data/cases.jsonl, which is our own; published cases of the same form are tested as well if they are next to the
checkout:

    {"kind": "reply", "task": "gsm8k", "note": "money", "gold": "29", "reply": "It is $29.00.", "correct": true}
    {"kind": "equal", "task": "maths", "note": "mixed", "gold": "1\\\\frac{1}{2}", "answer": "1.5", "equal": true}
    {"kind": "row", "task": "jsonl", "note": "doctest", "answer": ">>> f()\\n1", "reply": "...", "correct": true}
"""

import json
import os
from pathlib import Path

import pytest

from tasks.checks import CHECKS
from tasks.gsm8k import Gsm8k
from tasks.humaneval import HumanEval
from tasks.interface import SPLITS, Example, Score
from tasks.jsonl import JsonLines
from tasks.maths import equivalent

OWN = Path(__file__).parent / "data" / "cases.jsonl"
DATA = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILES = [path for path in (OWN, DATA.parent / "cases" / "answers.jsonl") if path.exists()]

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def rows(path: Path, kind: str, task: str) -> list[dict]:
    found = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row for row in found if (row["kind"], row["task"]) == (kind, task)]


def misjudged(cases: list[dict], scores: list[Score]) -> list[str]:
    assert len(cases) > 10
    return [row["note"] for row, score in zip(cases, scores, strict=True) if score.correct != row["correct"]]


def accepts(row: dict) -> bool:
    """Return whether the test of a row that may be refused is one that the task takes."""
    answer = row["answer"]
    return CHECKS["python"].problem("\n".join(answer) if isinstance(answer, list) else answer) is None


def test_programs_in_replies_are_judged_as_a_person_would(path: Path) -> None:
    task = HumanEval()
    splits = task.load()
    examples = {example.id: example for name in SPLITS for example in getattr(splits, name)}
    cases = rows(path, "reply", "humaneval")
    scores = task.score_many([examples[row["example"]] for row in cases], [row["reply"] for row in cases])
    assert misjudged(cases, scores) == []


def test_numbers_in_replies_are_judged_as_a_person_would(path: Path) -> None:
    task = Gsm8k()
    cases = rows(path, "reply", "gsm8k")
    examples = [Example("1", {"question": "?", "answer": f"#### {row['gold']}"}) for row in cases]
    assert misjudged(cases, task.score_many(examples, [row["reply"] for row in cases])) == []


def test_mathematical_answers_are_compared_as_a_person_would(path: Path) -> None:
    cases = rows(path, "equal", "maths")
    assert len(cases) > 10
    assert [row["note"] for row in cases if equivalent(row["gold"], row["answer"]) != row["equal"]] == []


def test_programs_are_judged_by_tests_in_each_published_form(path: Path, tmp_path: Path) -> None:
    cases = [row for row in rows(path, "row", "jsonl") if "refused" not in row.get("expected", "") or accepts(row)]
    data = tmp_path / "rows.jsonl"
    lines = [{"prompt": str(n), "answer": row["answer"], "check": "python"} for n, row in enumerate(cases)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = JsonLines()
    splits = task.load(data)
    examples = {e.fields["messages"][0]["content"]: e for name in SPLITS for e in getattr(splits, name)}
    scores = task.score_many([examples[str(n)] for n in range(len(cases))], [row["reply"] for row in cases])
    expected = [row | {"correct": row.get("correct", row.get("expected", "").startswith("right"))} for row in cases]
    assert misjudged(expected, scores) == []
