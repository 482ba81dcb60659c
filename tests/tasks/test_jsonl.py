import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from tasks.interface import SPLITS, Example
from tasks.jsonl import JsonLines

DATA = Path(__file__).parent / "data" / "jsonl.jsonl"
TASK = JsonLines()
SPLIT = TASK.load(DATA)
ALL = [example for name in SPLITS for example in getattr(SPLIT, name)]
RIGHT = {
    "year 2024": "2024-02-29",
    "primary colour": "Green, for one.",
    "Greet me": "Bonjour !",
    "add(a, b)": "```python\ndef add(a, b):\n    return a + b\n```",
    "last(items)": "Here it is:\n```python\ndef last(items):\n    return items[-1]\n```\nEnjoy.",
    "double(text)": "def double(text):\n    return 2 * text",
}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {n} + 1?", "answer": n + 1, "check": "number"} for n in range(count)]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def right(example: Example) -> str:
    known = TASK.gold(example)
    return known if known is not None else next(v for k, v in RIGHT.items() if k in TASK.completion(example))


def test_without_a_file_it_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="name your file with --data"):
        TASK.load()


def test_splits_of_a_large_and_of_a_small_file(tmp_path: Path) -> None:
    assert TASK.load(write(tmp_path / "a.jsonl", rows(1500))).sizes == {
        "support": 200,
        "select": 100,
        "gate": 200,
        "test": 1000,
    }
    assert TASK.load(write(tmp_path / "b.jsonl", rows(10))).sizes == {"support": 2, "select": 1, "gate": 2, "test": 5}


def test_rows_of_one_group_and_near_duplicates_are_cut_together(tmp_path: Path) -> None:
    lines = [row | {"group": n // 3} for n, row in enumerate(rows(60))]
    asked = "Which number is written here in words, after the {}: nine hundred and some more and then a few again, 9{}?"
    lines += [
        {"prompt": asked.format(word, n), "answer": n, "check": "number"} for n in range(9) for word in ("a", "b")
    ]
    splits = TASK.load(write(tmp_path / "a.jsonl", [*lines, rows(70)[-1] | {"group": None}]))
    split_of = {TASK.completion(e).strip(): name for name in SPLITS for e in getattr(splits, name)}
    for n in range(0, 60, 3):
        assert len({split_of[f"What is {n + k} + 1?"] for k in range(3)}) == 1
    for n in range(9):
        assert split_of[asked.format("a", n)] == split_of[asked.format("b", n)]
    assert sum(splits.sizes.values()) == 79


@pytest.mark.parametrize("field", ["group", "category"])
@pytest.mark.parametrize("label", [True, 1.5, ["a"]])
def test_a_group_and_a_category_are_text_or_a_whole_number(tmp_path: Path, field: str, label: object) -> None:
    lines = [*rows(10), rows(11)[-1] | {field: label}]
    with pytest.raises(UsageError, match=rf"line 11: field '{field}' is .*; expected text or a whole number"):
        TASK.load(write(tmp_path / "a.jsonl", lines))


def test_a_category_is_read_under_any_name_and_enters_the_identity(tmp_path: Path) -> None:
    plain = TASK.load(write(tmp_path / "plain.jsonl", rows(10)))
    assert {TASK.category(example) for example in plain.support} == {None}
    named = write(tmp_path / "named.jsonl", [row | {"topic": n % 2} for n, row in enumerate(rows(10))])
    assert TASK.load(named).content_hash == plain.content_hash  # other fields are ignored
    task = JsonLines()
    task.field_names = {"category": "topic"}
    splits = task.load(named)
    assert [e.id for e in splits.support] == [e.id for e in plain.support]
    for example in splits.test:
        assert task.category(example) == str((int(example.fields["answer"]) - 1) % 2)
    assert splits.content_hash != plain.content_hash


def test_every_check_accepts_a_right_reply_and_rejects_a_wrong_one() -> None:
    assert {e.fields["check"] for e in ALL} == {"exact", "number", "math", "regex", "python"}
    texts = [right(example) for example in ALL]
    scores = TASK.score_many(ALL, texts)
    assert [(e.id, s.detail) for e, s in zip(ALL, scores, strict=True) if not s.correct] == []
    assert all(score.reward == 1.0 for score in scores)
    wrong = TASK.score_many(ALL, ["I do not know."] * len(ALL))
    assert not any(score.correct or score.reward for score in wrong)


def test_programs_are_scored_with_their_own_tests_among_other_rows() -> None:
    programs = [e for e in ALL if e.fields["check"] == "python"]
    others = [e for e in ALL if e.fields["check"] == "exact"]
    mixed = [example for pair in zip(programs, others, strict=False) for example in pair]
    texts = [right(example) for example in mixed]
    assert all(score.correct for score in TASK.score_many(mixed, texts))
    turned = [*texts[2:], *texts[:2]]
    assert not any(score.correct for score in TASK.score_many(mixed, turned))


def test_programs_need_the_sandbox_and_other_files_do_not(tmp_path: Path) -> None:
    task = JsonLines()
    for data, executes in ((DATA, True), (write(tmp_path / "a.jsonl", rows(20)), False)):
        task.load(data)
        assert task.executes_code is executes


def test_a_conversation_is_sent_unchanged() -> None:
    example = next(e for e in ALL if "France" in TASK.completion(e))
    assert TASK.messages(example) == [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    assert TASK.completion(example) == "Answer with one word.\n\nWhat is the capital of France?\n\n"


def test_numbers_vote_by_value_and_programs_do_not_vote() -> None:
    number = next(e for e in ALL if e.fields["check"] == "number")
    program = next(e for e in ALL if e.fields["check"] == "python")
    assert TASK.vote_key(number, "42") == TASK.vote_key(number, "that is 42.0") != TASK.vote_key(number, "43")
    assert TASK.vote_key(number, "no number") is None
    assert TASK.vote_key(program, "def add(a, b): ...") is None


GOOD = {"prompt": "What?", "answer": "that", "check": "exact"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "found list, expected a JSON object"),
        ({"answer": "a", "check": "exact"}, "the row has 'answer', 'check'; expected 'prompt' or 'messages'"),
        (GOOD | {"messages": []}, "the row has fields 'prompt' and 'messages'; remove one"),
        (GOOD | {"prompt": 3}, "field 'prompt' is 3; expected text"),
        (GOOD | {"prompt": " "}, "field 'prompt' is ' '; expected text"),
        ({"prompt": "What?", "check": "exact"}, "field 'answer' is missing"),
        ({"prompt": "What?", "answer": "a"}, "field 'check' is missing"),
        (GOOD | {"check": "fuzzy"}, "field 'check' is 'fuzzy'; expected one of exact, number, math, regex, python"),
        (GOOD | {"check": ["exact"]}, "field 'check' is ['exact']; expected one of"),
        (GOOD | {"answer": None}, "field 'answer' is None; for check 'exact', text is expected"),
        (GOOD | {"answer": True}, "field 'answer' is True; for check 'exact', text is expected"),
        (GOOD | {"answer": ""}, "field 'answer' is ''; for check 'exact', text is expected"),
        (
            GOOD | {"check": "number"},
            "field 'answer' is 'that'; for check 'number', expected a number in digits, such as 42",
        ),
        (
            GOOD | {"check": "regex", "answer": "("},
            "field 'answer' is '('; for check 'regex', expected a pattern of the regex",
        ),
        (GOOD | {"check": "python"}, "field 'answer' is 'that'; for check 'python', it calls no function of the reply"),
        ({"messages": "hi", "answer": "a", "check": "exact"}, "field 'messages' is 'hi'; expected a list"),
        ({"messages": [], "answer": "a", "check": "exact"}, "field 'messages' is []; expected a list"),
        ({"messages": [{"role": "user"}], "answer": "a", "check": "exact"}, "field 'messages' is [{'role': 'user'}]"),
        (
            {"messages": [{"role": "assistant", "content": "hi"}], "answer": "a", "check": "exact"},
            "the last one the user's",
        ),
        (
            {"prompt": "What is 0 + 1?", "answer": 2, "check": "number"},
            'field \'answer\' is "2" here and "1" there; keep one of the two rows',
        ),
    ],
)
def test_an_invalid_line_is_an_error_that_names_file_line_and_field(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path / "mine.jsonl", [*rows(20), "", line])
    with pytest.raises(UsageError) as error:
        TASK.load(path)
    assert str(error.value).startswith(f"{path}, line 22: ")
    assert message in str(error.value)


def test_equal_rows_count_once(tmp_path: Path) -> None:
    once = TASK.load(write(tmp_path / "a.jsonl", rows(20)))
    assert TASK.load(write(tmp_path / "b.jsonl", [*rows(20), *rows(5)])) == once
