r"""MBPP: 974 short crowd-sourced Python functions, each with a description and three tests.

    Row:     {"task_id": 13, "text": "Write a function to count how often each item occurs.",
             "code": "from collections import Counter\r\ndef tally(items):\r\n  return dict(Counter(items))",
             "test_setup_code": "", "test_list": ["assert tally(['a', 'b', 'a']) == {'a': 2, 'b': 1}", ...],
             "challenge_test_list": []}
    Prompt:  Complete this Python function. Reply with one code block that holds the whole function.
             ```python def tally(items): ... Write a function to count how often each item occurs.
             assert tally(['a', 'b', 'a']) == {'a': 2, 'b': 1} ...
    Answer:  ```python
             def tally(items):
                 return {item: items.count(item) for item in items}
             ```

Austin et al. 2021, "Program Synthesis with Large Language Models" (arXiv 2108.07732). CC BY 4.0. The prompt shows the
signature and the first test. All tests must pass, including the challenge tests. The paper's prompt shows all three
tests, so a program that handles only these arguments counts as correct there. Accuracies here are therefore lower, and
must not be compared with the published ones.

The tests of problems 367, 601 and 927 use a class that only the published solution defines, and not the prompt.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

from bench.errors import UsageError
from tasks.code import FunctionTask, body_of, fenced
from tasks.interface import Example, PromptStyle, Splits, cut
from tasks.sources import Row, Source, typed
from tasks.splitting import cut_beside, distinct


def _row(row: Row) -> Row:
    """Convert a row of the sanitized MBPP or of MBPP+, which name some fields differently.

        {"task_id": 2, "prompt": "Write ...", "code": "def ...", "test_imports": [], "test_list": ["assert ..."],
         "test": "import numpy as np ..."}

    Only MBPP+ has `test`: Python with many more inputs, which is run after the tests of `test_list`.
    """
    if "text" in row:
        return row
    found: Row = {"text": row["prompt"], "test_setup_code": "", "challenge_test_list": []}
    found |= {name: row[name] for name in ("test_setup_code", "challenge_test_list") if name in row}
    if "test_imports" in row:
        found["test_setup_code"] = "\n".join(typed(row, {"test_imports": list}, "")["test_imports"])
    if row.get("test"):
        found["challenge_test_list"] = [row["test"]]
    return row | found


SOURCE = Source(
    task="mbpp",
    id="google-research-datasets/mbpp",
    config="full",
    splits=("prompt", "test", "validation", "train"),
    revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
    fields={
        "task_id": int,
        "text": str,
        "code": str,
        "test_setup_code": str,
        "test_list": list,
        "challenge_test_list": list,
    },
    convert=_row,
    sha256="821efb565ec15460d147988a34b1dd4e3a83323d2a8dd72caca0962b138f16fb",
)
TEST_IDS = range(11, 511)
SIZES = {"support": 200, "select": 100, "gate": 174}
SALT = "mbpp-1"


class Mbpp(FunctionTask):
    """Correct if all tests pass. The test split is the published one, `task_id` 11 to 510."""

    name = "mbpp"
    version = "4"
    max_new_tokens = 512
    expected_new_tokens = 90
    gold_field = "code"
    sources = (SOURCE,)

    def load(self, data: Path | None = None) -> Splits:
        """Return 195 support, 97 select and 170 gate problems, and the published test split of 500.

        10 of the other 474 problems are left out, because they ask the same as a test problem. A file is split by
        `task_id` as well. If it has fewer rows for adaptation, those three splits shrink in proportion.
        """
        origin = str(data or "mbpp")
        rows = SOURCE.load(data, self.field_names)
        examples = distinct((_example(row, where) for where, row in rows), origin)
        test = [e for e in examples if e.fields["task_id"] in TEST_IDS]
        rest = [e for e in examples if e.fields["task_id"] not in TEST_IDS]
        tested = cut(test, salt=SALT, support=0, select=0, gate=0, test=len(test)).test
        origin += ", where task_id 11 to 510 is the test split"
        return cut_beside(tested, rest, origin, salt=SALT, content=self.content, **SIZES)

    def content(self, example: Example) -> str:
        """Return the description, without the signature and the test around it in the prompt."""
        return str(example.fields["prompt"]).partition('"""')[2].rpartition("\n\n")[0]

    def whole(self, data: Path | None = None) -> tuple[Example, ...]:
        """Return the published test split."""
        return self.load(data).test

    def gold(self, example: Example) -> str:
        """Return the published solution in a code block."""
        return fenced(example.fields["canonical_solution"])

    def worked(self, example: Example, style: PromptStyle) -> str | None:
        """Return the gold answer in a chat, and the body of its function in a completion; see `body_of`."""
        if style == "chat":
            return self.gold(example)
        return body_of(example.fields["canonical_solution"], example.fields["entry_point"])


def _example(row: Row, where: str) -> Example:
    tests = [row["test_setup_code"], *row["test_list"], *row["challenge_test_list"]]
    try:
        code, test = (text.replace("\r\n", "\n").replace("\r", "\n") for text in (row["code"], "\n".join(tests)))
        functions = {node.name: node for node in _parsed(code).body if isinstance(node, ast.FunctionDef)}
        called = [name for name in _called(row["test_list"][0]) if name in functions]
        prompt = _prompt(functions[called[0]], row["text"], row["test_list"][0])
    except (SyntaxError, ValueError, TypeError, IndexError, MemoryError, RecursionError) as error:
        raise UsageError(
            f"{where}: expected fields 'code' and 'test_list' with Python, the first test a call of a function in "
            f"'code', and 'text' for a docstring ({error})"
        ) from error
    names = {"prompt": prompt, "entry_point": called[0], "canonical_solution": code, "test": test}
    return Example(f"Mbpp/{row['task_id']}", {"task_id": row["task_id"], **names}, where)


def _prompt(function: ast.FunctionDef, text: str, test: str) -> str:
    """Return the signature and a docstring with the description and one test, without the test's error message."""
    (assertion,) = _parsed(test).body
    if not isinstance(assertion, ast.Assert):
        raise TypeError(f"{test!r} asserts nothing")
    lines = [*text.strip().splitlines(), "", f"assert {ast.unparse(assertion.test)}"]
    body = "\n".join(f"    {line}".rstrip() for line in lines).lstrip()
    raw = "r" if "\\" in body else ""
    prompt = f'def {function.name}({ast.unparse(function.args)}):\n    {raw}"""{body}\n    """\n'
    _parsed(prompt)
    return prompt


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published solutions contain invalid escape sequences
        return ast.parse(text)


def _called(test: str) -> list[str]:
    """Return the names that a test calls, in the order of the text."""
    calls = [node for node in ast.walk(_parsed(test)) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return [call.func.id for call in calls if isinstance(call.func, ast.Name)]
