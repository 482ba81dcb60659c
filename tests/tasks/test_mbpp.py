import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from tasks.code.examples import cases
from tasks.interface import SPLITS, Example, Splits
from tasks.mbpp import SOURCE, TEST_IDS, Mbpp
from tasks.sources import copy_in

FILE = Path(__file__).parent / "data" / "mbpp.jsonl"
SHARED = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mbpp.jsonl"
TASK = Mbpp()
ROWS = {row["task_id"]: row for row in map(json.loads, FILE.read_text().splitlines())}


def every(splits: Splits) -> dict[str, Example]:
    found = {example.id: example for name in SPLITS for example in getattr(splits, name)}
    return dict(sorted(found.items(), key=lambda item: item[1].fields["task_id"]))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(tmp_path: Path, **changes: Any) -> Example:
    """Return the first test problem with changed fields."""
    rows = [*(ROWS[n] for n in range(1, 11)), ROWS[11] | changes]
    return TASK.load(write(tmp_path / "rows.jsonl", rows)).test[0]


def prompt_of(example: Example) -> str:
    return "\n".join(turn["content"] for prompt in TASK.prompts for turn in TASK.messages(example, prompt))


def test_the_published_test_split_is_tested_on_and_the_rest_is_for_adaptation() -> None:
    splits = TASK.load(FILE)
    assert splits.sizes == {"support": 4, "select": 2, "gate": 3, "test": 8}
    assert {e.fields["task_id"] for e in splits.test} == {n for n in ROWS if n in TEST_IDS}
    assert TASK.whole(FILE) == splits.test


@pytest.mark.parametrize("ids", [range(1, 11), range(11, 19), [1, 2, 3, 4, 11]])
def test_rows_that_leave_a_split_empty_are_an_error_that_counts_them(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl, where task_id 11 to 510 is the test split: \d .* need 1 and 5"):
        TASK.load(write(tmp_path / "rows.jsonl", [ROWS[n] for n in ids if n in ROWS][:8]))


def test_the_prompt_shows_the_signature_the_sentence_and_one_test(tmp_path: Path) -> None:
    example = load(tmp_path, challenge_test_list=["assert reverse_words('x  y') == 'y x'"])
    assert example.fields["prompt"] == (
        'def reverse_words(sentence):\n    """Write a function to reverse the words of a sentence.\n\n'
        "    assert reverse_words('good day') == 'day good'\n    \"\"\"\n"
    )
    assert TASK.messages(example)[0]["content"].endswith(f"```python\n{example.fields['prompt'].strip()}\n```")
    for hidden in ("a b c", "'one'", "x  y", "reversed("):
        assert hidden not in prompt_of(example) + TASK.completion(example)
    assert cases(example.fields["prompt"], "reverse_words") == (("('good day',)", "'day good'"),)


@pytest.mark.parametrize("text", ["Quote: \"x\" and 'y'", 'ends with "', "a \\d in it", "two\nlines"])
def test_a_prompt_is_python_that_can_be_continued(tmp_path: Path, text: str) -> None:
    example = load(tmp_path, text=text)
    assert TASK.score(example, "    return ' '.join(sentence.split()[::-1])\n").correct
    assert TASK.score(example, "```python\ndef reverse_words(s):\n    return ' '.join(s.split()[::-1])\n```").correct


def test_the_shown_test_is_not_enough(tmp_path: Path) -> None:
    """A program that handles only the shown example, or only the published tests, is wrong."""
    example = load(tmp_path, challenge_test_list=["assert reverse_words('x y') == 'y x'"])
    known = {"good day": "day good"}
    body = "    return {!r}.get(sentence)\n"
    assert not TASK.score(example, body.format(known)).correct
    assert TASK.signal(example, body.format(known)) == 1.0
    published = known | {"one": "one", "a b c": "c b a"}
    assert not TASK.score(example, body.format(published)).correct
    assert TASK.score(example, body.format(published | {"x y": "y x"})).correct


def test_a_worked_example_continues_its_prompt() -> None:
    examples = every(TASK.load(FILE)).values()
    known = [(e, body) for e in examples if (body := TASK.worked(e, "completion")) is not None]
    assert len(known) == len(examples) - 1  # one solution has a class of its own
    assert [e.id for e, body in known if any(stop in body for stop in TASK.stop("completion"))] == []
    scores = TASK.score_many(*zip(*known, strict=True))
    assert [e.id for (e, _), score in zip(known, scores, strict=True) if not score.correct] == []
    assert all(TASK.worked(e, "chat") == TASK.gold(e) for e in examples)


def test_published_solutions_are_right() -> None:
    examples = every(TASK.load(FILE))
    known = [(example, TASK.gold(example)) for example in examples.values()]
    scores = TASK.score_many(*zip(*known, strict=True))
    assert [e.id for (e, _), score in zip(known, scores, strict=True) if not score.correct] == []
    assert TASK.signals(*zip(*known, strict=True)) == [1.0] * len(known)


def test_objects_of_the_solutions_own_class_stay_in_the_program(tmp_path: Path) -> None:
    rows = [*(ROWS[n] for n in range(1, 8)), ROWS[8] | {"task_id": 500}]
    (example,) = TASK.load(write(tmp_path / "rows.jsonl", rows)).test
    gold = TASK.gold(example)
    assert TASK.score(example, gold).correct
    forged = gold.replace("class ", "class Any:\n    def __eq__(self, other): return True\n\nclass ")
    name = example.fields["entry_point"]
    forged = forged.replace(f"def {name}(", f"def {name}(*args):\n    return Any()\n\ndef other(")
    score = TASK.score(example, forged)
    assert (score.correct, score.status) == (False, "ok")


def test_programs_vote_by_the_shown_example(tmp_path: Path) -> None:
    example = load(tmp_path)
    right, same, other = TASK.vote_keys(
        [example] * 3,
        [
            "    return ' '.join(sentence.split()[::-1])\n",
            "    words = sentence.split(' ')\n    words.reverse()\n    return ' '.join(words)\n",
            "    return sentence\n",
        ],
    )
    assert right is not None
    assert right.basis == "behaviour"
    assert right == same != other


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "def ("},
        {"code": "x = 1"},
        {"test_list": []},
        {"test_list": [7]},
        {"test_list": ["assert other(1) == 2"]},
        {"challenge_test_list": [None]},
        {"text": 'a """ in it'},
        {"code": "x = " + "(" * 9999},
    ],
)
def test_a_row_without_a_function_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl, line 11: expected fields 'code' and 'test_list'"):
        load(tmp_path, **changes)


def test_a_field_of_another_type_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl, line 11: field 'test_list' is 'x'; expected a list"):
        load(tmp_path, test_list="x")


@pytest.mark.skipif(not SHARED.exists(), reason="the published data set is not next to the checkout")
class TestPublishedData:
    def test_it_is_the_pinned_one_and_its_splits_those_of_the_tasks_version(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
        assert copy_in((SOURCE,), SHARED) is SOURCE
        splits = TASK.load()
        assert splits.content_hash == TASK.load(SHARED).content_hash
        assert splits.sizes == {"support": 195, "select": 97, "gate": 170, "test": 500}
        assert splits.left_out == 10
        assert {e.fields["task_id"] for e in splits.test} == set(range(11, 511))
        listed = "\n".join(f"{name} {e.id}" for name in SPLITS for e in getattr(splits, name))
        digest = hashlib.sha256((listed + splits.content_hash).encode()).hexdigest()
        assert (TASK.version, digest[:32]) == ("4", "41f05fef26af847c736377dff95f93b5")

    def test_no_prompt_shows_a_second_test(self) -> None:
        examples = every(TASK.load(SHARED))
        assert len(examples) == 962
        shown = [len(cases(e.fields["prompt"], e.fields["entry_point"])) for e in examples.values()]
        assert max(shown) == 1
        # Their first tests call the function with a name, a type or a sum instead of literals.
        without = {name for (name, _), count in zip(examples.items(), shown, strict=True) if count == 0}
        assert without == {f"Mbpp/{n}" for n in (367, 486, 533, 601, 927)}
