"""Published layouts of data sets are read as they are, and rows that no reply could answer are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.registry import load_task
from tasks.interface import SPLITS, Example

CODE = "def double{n}(x):\n    return 2 * x\n"
PLUS = (
    "import numpy as np\n"
    "def is_floats(x):\n"
    "    return isinstance(x, float) or isinstance(x, np.ndarray)\n"
    "def assertion(out, exp, atol):\n"
    "    if atol == 0 and is_floats(exp):\n"
    "        atol = 1e-6\n"
    "    if out != exp and atol != 0:\n"
    "        np.testing.assert_allclose(out, exp, rtol=1e-07, atol=atol)\n"
    "    else:\n"
    "        assert out == exp\n"
)


def gsm8k(n: int) -> dict[str, Any]:
    return {"question": f"What is {n} + 1?", "answer": f"It is {n} + 1 = <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1:,}"}


def gsm8k_platinum(n: int) -> dict[str, Any]:
    return gsm8k(n) | {"cleaning_status": "consensus"}


def numbers(n: int) -> dict[str, Any]:
    return {"question": f"What is {n} + 1?", "answer": n + 1, "equation_solution": None}


def math(n: int) -> dict[str, Any]:
    return {
        "problem": f"What is {n} + 1?",
        "level": "Level 5" if n else "Level ?",
        "type": "Algebra",
        "solution": rf"Adding gives $\boxed{{\frac{{{n + 1}}}{{1}}}}$.",
    }


def math500(n: int) -> dict[str, Any]:
    row = {"unique_id": f"test/{n}.json", "problem": f"What is {n} + 1?", "solution": "It is so.", "answer": f"{n + 1}"}
    return row | {"subject": "Algebra", "level": 2}


def aime(n: int) -> dict[str, Any]:
    return {"problem": f"What is {n} + 1?", "answer": f"{n + 1}"}


def aime_2024(n: int) -> dict[str, Any]:
    return {"ID": f"2024-I-{n}", "Problem": f"What is {n} + 1?", "Solution": "It is so.", "Answer": n + 1}


def aime_years(n: int) -> dict[str, Any]:
    return {"ID": f"1983-{n}", "Year": 1983, "Problem Number": n, "Question": f"What is {n} + 1?", "Answer": f"{n + 1}"}


def olympiadbench(n: int) -> dict[str, Any]:
    row = {"id": 1600 + n, "question": f"What is {n} + 1, and 0?", "solution": ["It is so."]}
    row |= {"final_answer": [f"{n + 1}", "0"], "context": None, "image_1": None, "modality": "Text-only"}
    return row | {"is_multiple_answer": True, "unit": None, "answer_type": "Numerical", "error": None}


def mbpp_sanitized(n: int) -> dict[str, Any]:
    code, tests = CODE.format(n=n), [f"assert math.isclose(double{n}({k}), {2 * k})" for k in (1, 2, 3)]
    row = {"source_file": "Benchmark Questions.ipynb", "task_id": n, "prompt": f"Write a function to double {n}."}
    return row | {"code": code, "test_imports": ["import math"], "test_list": tests}


def mbpp_plus(n: int) -> dict[str, Any]:
    cases = f"for x, y in [([1.5], 3.0), ([2], 4), ([-7], -14)]:\n    assertion(double{n}(*x), y, 0)\n"
    return mbpp_sanitized(n) | {"test": PLUS + cases}


def humaneval_plus(n: int) -> dict[str, Any]:
    test = (
        f"{PLUS}\ndef check(candidate):\n    for x, y in [(1.5, 3.0), (2, 4)]:\n        assertion(candidate(x), y, 0)\n"
    )
    row = {"task_id": f"HumanEval/{n}", "prompt": f'def double{n}(x):\n    """Double {n}."""\n', "test": test}
    return row | {"canonical_solution": "    return 2 * x\n", "entry_point": f"double{n}"}


def humaneval_x(n: int) -> dict[str, Any]:
    declaration = f"import math\n\ndef helper(x): return x\n\ndef double{n}(x):\n"
    test = f"\n\nMETADATA = {{}}\n\n\ndef check(double{n}):\n    assert double{n}(3) == 6\n\ncheck(double{n})\n"
    row = {"task_id": f"Python/{n}", "prompt": f'{declaration}    """Double {n}."""\n', "declaration": declaration}
    return row | {"canonical_solution": "    return 2 * x\n", "test": test, "example_test": test}


LAYOUTS: list[tuple[str, Any, str]] = [
    ("gsm8k", gsm8k, r"Adding gives \boxed{{{}}}"),
    ("gsm8k", gsm8k_platinum, "The answer is {}."),
    ("gsm8k", numbers, "It is {}"),
    ("math500", math, r"\boxed{{{}}}"),
    ("math500", math500, r"\boxed{{{}}}"),
    ("math500", aime, r"\boxed{{{}}}"),
    ("math500", aime_2024, r"\boxed{{{}}}"),
    ("math500", aime_years, r"\boxed{{{}}}"),
    ("olympiadbench", aime, r"\boxed{{{}}}"),
    ("olympiadbench", math, r"\boxed{{{}}}"),
    ("olympiadbench", olympiadbench, r"\boxed{{{}, 0}}"),
    ("mbpp", mbpp_sanitized, "```python\ndef double{n}(x):\n    return x + x\n```"),
    ("mbpp", mbpp_plus, "```python\ndef double{n}(x):\n    return x + x\n```"),
    ("humaneval", humaneval_plus, "```python\ndef double{n}(x):\n    return x + x\n```"),
    ("humaneval", humaneval_x, "```python\ndef double{n}(x):\n    return x + x\n```"),
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def load(name: str, path: Path) -> tuple[Any, list[Example]]:
    task = load_task(name)
    splits = task.load(path)
    return task, [example for split in SPLITS for example in getattr(splits, split)]


@pytest.mark.parametrize(("name", "row", "reply"), LAYOUTS, ids=lambda part: getattr(part, "__name__", part)[:20])
def test_published_rows_load_as_they_are_and_their_golds_pass(tmp_path: Path, name: str, row: Any, reply: str) -> None:
    count = 110 if name == "humaneval" else 15
    task, examples = load(name, write(tmp_path / "rows.json", [row(n) for n in range(count)]))
    assert len(examples) >= count - 1  # the splits of MBPP are proportional, which can leave a row out
    some = sorted(examples, key=lambda e: e.id)[:4]
    golds = [task.gold(example) for example in some]
    assert [score.detail for score in task.score_many(some, golds) if not score.correct] == []
    asked = task.completion(some[0])
    (number,) = (n for n in range(count) if f"is {n} + 1" in asked or f"double{n}(x)" in asked)
    right = reply.format(number + 1, n=number)
    assert task.score(some[0], right).correct
    assert not task.score(some[0], right.replace("x + x", "x").replace(str(number + 1), "77")).correct


def test_published_files_keep_their_content_hash_in_every_form(tmp_path: Path) -> None:
    rows = [math500(n) for n in range(16)]
    listed = load_task("math500").load(write(tmp_path / "a", rows))
    lines = tmp_path / "b"
    lines.write_text("\r\n".join(json.dumps(row) for row in rows), encoding="utf-16")
    renamed = write(tmp_path / "c", [{"q" if k == "problem" else k: v for k, v in row.items()} for row in rows])
    task = load_task("math500")
    task.field_names = {"problem": "q"}
    assert listed.content_hash == load_task("math500").load(lines).content_hash == task.load(renamed).content_hash


@pytest.mark.parametrize(
    ("name", "row", "changes", "message"),
    [
        ("gsm8k", gsm8k, {"answer": "It is so.\n#### "}, "field 'answer' is .*; expected a number"),
        ("gsm8k", gsm8k, {"answer": ""}, "field 'answer' is \"\"; expected an answer"),
        ("gsm8k", gsm8k, {"answer": "We add 4 and 5"}, "field 'answer' is .*; expected a number"),
        ("gsm8k", gsm8k, {"answer": r"So \boxed{9}."}, 'a whole solution; expected the answer alone, .* "9"'),
        ("gsm8k", gsm8k, {"answer": None}, "field 'answer' is null; expected an answer"),
        ("math500", math500, {"answer": " "}, "field 'answer' is \" \"; expected an answer"),
        ("math500", math500, {"answer": r"Adding, \boxed{7}"}, 'a whole solution; .* seems to be "7"'),
        ("math500", math500, {"answer": "Adding gives 7.\n#### 7"}, 'a whole solution; .* seems to be "7"'),
        ("math500", math500, {"answer": "We add. The answer is 7."}, "a whole solution"),
        ("math500", math, {"solution": "It is 7."}, "field 'solution' has no .boxed{answer}"),
        ("olympiadbench", olympiadbench, {"final_answer": []}, "field 'final_answer' is \\[\\]; expected an answer"),
        ("olympiadbench", olympiadbench, {"final_answer": None}, "field 'final_answer' is null; expected an answer"),
        ("olympiadbench", olympiadbench, {"modality": "Multimodal"}, "field 'modality' is 'Multimodal'; .* remove"),
        (
            "humaneval",
            humaneval_x,
            {"prompt": "int f(int x) {", "task_id": "CPP/1"},
            "field 'prompt' is .* Python part",
        ),
    ],
)
def test_a_row_that_no_reply_can_answer_is_refused(
    tmp_path: Path, name: str, row: Any, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*(row(n) for n in range(90)), row(99) | changes]))
    with pytest.raises(UsageError, match=message) as caught:
        load_task(name).load(path)
    assert str(caught.value).startswith(f"{path}, line 91: ")


def test_the_same_question_with_another_answer_is_refused_with_both_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [*(aime(n) for n in range(16)), aime(2) | {"answer": "77"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError) as caught:
        load_task("math500").load(path)
    assert str(caught.value).startswith(f"{path}, line 17: same question or id ")
    assert f'as {path}, line 3; field \'answer\' is "77" here and "3" there; keep one' in str(caught.value)
