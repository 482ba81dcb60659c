"""Replies and answers from public reports, each with the verdict that a person would give.

A row: {"kind": "reply", "task": "gsm8k", "note": "money", "gold": "29", "reply": "It is $29.00.", "correct": true},
or {"kind": "equal", "task": "maths", "note": "mixed", "gold": "1\\\\frac{1}{2}", "answer": "1.5", "equal": true}.
"""

import json
import os
from pathlib import Path

import pytest

from tasks.gsm8k import Gsm8k
from tasks.humaneval import HumanEval
from tasks.interface import SPLITS, Example, Score
from tasks.maths import equivalent

DATA = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
CASES = DATA.parent / "cases" / "answers.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()] if CASES.exists() else []

pytestmark = pytest.mark.skipif(not ROWS, reason="the published cases are not next to the checkout")


def rows(kind: str, task: str) -> list[dict]:
    return [row for row in ROWS if (row["kind"], row["task"]) == (kind, task)]


def misjudged(kind: str, task: str, scores: list[Score]) -> list[str]:
    pairs = zip(rows(kind, task), scores, strict=True)
    return [row["note"] for row, score in pairs if score.correct != row["correct"]]


def test_programs_in_replies_are_judged_as_a_person_would() -> None:
    task = HumanEval()
    splits = task.load()
    examples = {example.id: example for name in SPLITS for example in getattr(splits, name)}
    cases = rows("reply", "humaneval")
    scores = task.score_many([examples[row["example"]] for row in cases], [row["reply"] for row in cases])
    assert misjudged("reply", "humaneval", scores) == []


def test_numbers_in_replies_are_judged_as_a_person_would() -> None:
    task = Gsm8k()
    cases = rows("reply", "gsm8k")
    examples = [Example("1", {"question": "?", "answer": f"#### {row['gold']}"}) for row in cases]
    scores = task.score_many(examples, [row["reply"] for row in cases])
    assert misjudged("reply", "gsm8k", scores) == []


def test_mathematical_answers_are_compared_as_a_person_would() -> None:
    cases = rows("equal", "maths")
    assert [row["note"] for row in cases if equivalent(row["gold"], row["answer"]) != row["equal"]] == []
