"""The example in each task's docstring is a real row, a part of its prompt, and an answer that scores as correct."""

import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest

from bench.registry import BUILT_IN, load_task

DATA = Path(__file__).parent / "data"
FILES = {"math500": "problems", "olympiadbench": "problems"}
NAMES = [name.replace("<generator>", "leg_counting") for name in BUILT_IN["task"]]


def words(text):
    return " ".join(text.split())


def matches(shown, text):
    """Return whether a text equals the shown one, in which `...` stands for any text."""
    parts = (re.escape(words(part)) for part in shown.split("..."))
    return re.fullmatch(".*".join(parts), words(text), re.DOTALL) is not None


def shown_row(field):
    """Parse a row in which texts may contain `...` and a list may end in it."""
    return json.loads(words(field).replace(", ...]", "]"))


def agrees(shown, row):
    def same(one, other):
        if isinstance(one, str):
            return matches(one, other)
        return one == other[: len(one)] if isinstance(one, list) else one == other

    return all(name in row and same(value, row[name]) for name, value in shown.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_of_a_task_shows_a_row_its_prompt_and_a_correct_answer(name):
    task = load_task(name)
    fields = dict(
        re.findall(r"^    (Row|Prompt|Answer): +(.*\n(?: {13}.*\n)*)", inspect.getmodule(type(task)).__doc__, re.M)
    )
    assert list(fields) == ["Row", "Prompt", "Answer"]
    file = DATA / f"{FILES.get(name, name)}.jsonl"
    splits = task.load(file if file.exists() else None)
    examples = [e for part in (splits.support, splits.select, splits.gate, splits.test) for e in part]
    row = shown_row(fields["Row"])
    rows = (
        [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else [e.fields for e in examples]
    )
    assert any(agrees(row, other) for other in rows)
    prompted = [e for e in examples if any(matches(fields["Prompt"], turn["content"]) for turn in task.messages(e))]
    answer = textwrap.dedent(" " * 13 + fields["Answer"]).strip()
    assert [task.score(example, answer).correct for example in prompted] == [True]
