"""A row whose own reference answer does not pass is refused; what has passed is remembered."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError, UsageError
from bench.records.config import RunConfig
from bench.run.data import field_names, load_task_data
from bench.run.golds import wrong_gold
from tasks.humaneval import HumanEval
from tasks.interface import Score
from tasks.mbpp import Mbpp
from tasks.modular_addition import ModularAddition


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "golds"


def mbpp(number: int) -> dict[str, Any]:
    return {
        "task_id": number,
        "text": f"Write a function to add {number}.",
        "code": f"def add{number}(x):\n    return x + {number}\n",
        "test_setup_code": "",
        "test_list": [f"assert add{number}(1) == {number + 1}"],
        "challenge_test_list": [],
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(data: Path, task: str = "mbpp", **changes: Any) -> RunConfig:
    return RunConfig(task=task, data=str(data), model="tiny-adder", **changes)


def test_right_reference_answers_are_judged_once_per_content_and_version(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    real = Mbpp.score_many

    def counted(self: Mbpp, examples: Any, texts: Any) -> list[Score]:
        judged.append(len(examples))
        return real(self, examples, texts)

    monkeypatch.setattr(Mbpp, "score_many", counted)
    rows = [mbpp(n) for n in range(1, 16)]
    load_task_data(config(write(tmp_path / "a.jsonl", rows)))
    load_task_data(config(write(tmp_path / "b.jsonl", rows[::-1])))
    assert (judged, len(list(cache.iterdir()))) == ([14], 1)
    monkeypatch.setattr(Mbpp, "version", "next")
    load_task_data(config(tmp_path / "a.jsonl"))
    assert judged == [14, 14]
    load_task_data(config(write(tmp_path / "c.jsonl", [*rows[:14], mbpp(15) | {"text": "Another text."}])))
    assert judged == [14, 14, 14]


def test_an_answer_that_took_too_long_is_judged_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Score(0.0, False, status="timeout", detail="no verdict within 7 s")
    monkeypatch.setattr(Mbpp, "score_many", lambda self, examples, texts: [late] * len(texts))
    monkeypatch.setattr(Mbpp, "score", lambda self, example, text: Score(1.0, True))
    load_task_data(config(write(tmp_path / "rows.jsonl", [mbpp(n) for n in range(1, 16)])))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"code": "def add12(x):\n    return x\n"}, "AssertionError"),
        ({"code": "def add12(x):\n    while True: pass\n"}, "timeout"),
        ({"challenge_test_list": ["assert add12(0) == 0"]}, "AssertionError, line 3"),
    ],
)
def test_a_wrong_reference_answer_is_refused_with_file_line_field_and_value(
    tmp_path: Path, cache: Path, changes: dict[str, Any], reason: str
) -> None:
    rows = [mbpp(n) | (changes if n == 12 else {}) for n in range(1, 16)]
    path = write(tmp_path / "rows.jsonl", rows)
    for _ in range(1 if reason == "timeout" else 2):  # a failure is not remembered
        with pytest.raises(UsageError) as caught:
            load_task_data(config(path))
        assert str(caught.value).startswith(f"{path}, line 12: field 'code' is ")
        assert reason in str(caught.value)
        assert "correct the row, or remove it" in str(caught.value)
    assert not cache.exists()


def test_an_example_without_the_field_is_named_by_its_id() -> None:
    text = wrong_gold(ModularAddition(), ModularAddition().load().test[0], Score(0.0, False, "5"))
    assert re.fullmatch(r'.*: the reference answer "\d+", which is not right as a reply \(read as "5"\)', text)


def test_the_answers_of_both_files_are_judged(tmp_path: Path) -> None:
    wrong = {"canonical_solution": "    return x\n"}
    row = {"prompt": 'def f(x):\n    """Double."""\n', "entry_point": "f", "canonical_solution": "    return 2 * x\n"}
    row["test"] = "def check(candidate):\n    assert candidate(2) == 4\n"
    rows = [row | {"task_id": f"HumanEval/{n}"} | (wrong if n == 40 else {}) for n in range(110)]
    human = write(tmp_path / "human.jsonl", rows)
    added = write(tmp_path / "added.jsonl", [mbpp(n) for n in range(1, 16)])
    with pytest.raises(UsageError, match=r"human\.jsonl, line 41: field 'canonical_solution'"):
        load_task_data(config(human, "humaneval", adapt_on="mbpp", adapt_data=str(added)))
    broken = write(tmp_path / "broken.jsonl", [mbpp(1) | {"code": "def add1(x): pass"}, *map(mbpp, range(2, 16))])
    with pytest.raises(UsageError, match=r"broken\.jsonl, line 1: field 'code'"):
        load_task_data(config(added, "mbpp", adapt_on="mbpp", adapt_data=str(broken)))


def test_an_answer_that_could_not_be_judged_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Score(0.0, False, status="infrastructure", detail="the fork server ended")
    monkeypatch.setattr(Mbpp, "score_many", lambda self, examples, texts: [lost] * len(texts))
    with pytest.raises(BenchError, match=r"could not be judged .the fork server ended"):
        load_task_data(config(write(tmp_path / "rows.jsonl", [mbpp(n) for n in range(1, 16)])))


def test_generated_and_packaged_data_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, examples: Any, texts: Any) -> list[Score]:
        raise AssertionError("judged")

    for task in (HumanEval, ModularAddition):
        monkeypatch.setattr(task, "score_many", fail)
        load_task_data(RunConfig(task=task.name, model="tiny-adder"))


def test_fields_are_read_by_the_names_of_the_option(tmp_path: Path) -> None:
    rows = [{"Frage": f"What is {n} + 1?", "Antwort": n + 1} for n in range(16)]
    path = write(tmp_path / "rows.jsonl", rows)
    found = load_task_data(config(path, "gsm8k", fields="question=Frage, answer=Antwort"))
    same = write(tmp_path / "same.jsonl", [{"question": r["Frage"], "answer": r["Antwort"]} for r in rows])
    assert found.splits.content_hash == load_task_data(config(same, "gsm8k")).splits.content_hash


@pytest.mark.parametrize("fields", ["", "question", "a=b=c", "a=b,a=c", "a=", "=b", "a=b,"])
def test_an_unreadable_option_is_named(fields: str) -> None:
    with pytest.raises(UsageError, match=f"--fields {fields}: expected FIELD=NAME"):
        field_names(fields, Path("rows.jsonl"))


def test_fields_without_a_file_are_refused() -> None:
    with pytest.raises(UsageError, match="--fields a=b: names fields of a file; give the file with --data"):
        field_names("a=b", None)
