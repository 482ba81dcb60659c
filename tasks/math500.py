r"""MATH-500: 500 competition problems from the test set of MATH, in seven subjects and five levels.

    Row:     {"unique_id": "own/1", "problem": "What is $\\sqrt{50}$ in simplest form?", "solution": "It is ...",
             "answer": "5\\sqrt{2}", "subject": "Algebra", "level": 2}
    Prompt:  What is $\sqrt{50}$ in simplest form? Solve this problem step by step. Put the final answer, and nothing
             else, into \boxed{}; ...
    Answer:  \boxed{5\sqrt2}

Hendrycks et al. 2021, "Measuring Mathematical Problem Solving With the MATH Dataset" (arXiv 2103.03874). The 500
problems were chosen by Lightman et al. 2023, "Let's Verify Step by Step" (arXiv 2305.20050). MIT licence.
"""

from __future__ import annotations

import re
from pathlib import Path

from tasks.boxed import BoxedTask, published
from tasks.interface import Example, Splits
from tasks.sources import Row, Source, read_rows
from tasks.splitting import cut_one_file

SOURCE = Source(
    task="math500",
    id="HuggingFaceH4/MATH-500",
    config=None,
    splits=("test",),
    revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
    fields={"unique_id": str, "problem": str, "solution": str, "answer": str, "subject": str, "level": int},
    sha256="ddd5fb4df23add9e6d7c26295aa72785cbc9ab166f5e3de84a1e21974db18ae8",
)
REQUIRED = {name: SOURCE.fields[name] for name in ("unique_id", "problem", "answer")}
OPTIONAL = {name: kind for name, kind in SOURCE.fields.items() if name not in REQUIRED}
SIZES = {"support": 150, "select": 50, "gate": 50}


def _row(row: Row) -> Row:
    """Convert a row of MATH, MATH-500 or AIME. MATH writes levels as `Level 5`, or `Level ?` for a few."""
    found = published(row)
    found["unique_id"] = str(found.pop("id"))
    if not isinstance(found.get("solution", ""), str):
        del found["solution"]
    if "subject" not in found and "type" in found:
        found["subject"] = found["type"]
    level = re.search(r"\d+", str(found.pop("level", "")))
    return found | ({"level": int(level[0])} if level else {})


class Math500(BoxedTask):
    """All splits come from the same 500 problems, as in CoRP's experiments. So the accuracy is over 250 problems.

    `--data` takes rows in the layouts of MATH, MATH-500, AIME and OlympiadBench; see `tasks.boxed.published`.
    """

    name = "math500"
    version = "3-flexible"
    sources = (SOURCE,)

    def load(self, data: Path | None = None) -> Splits:
        """Return 150 support, 50 select and 50 gate problems; the other 250 are the test split."""
        rows = SOURCE.load(None, {}) if data is None else read_rows(data, REQUIRED, self.field_names, _row, OPTIONAL)
        examples = [Example(row["unique_id"], row, where) for where, row in rows]
        return cut_one_file(examples, str(data or "math500"), salt="math500-1", content=self.content, **SIZES)

    def category(self, example: Example) -> str | None:
        """Return subject and level, such as `Algebra, level 2`, or the one that the row has."""
        level = example.fields.get("level")
        parts = [example.fields.get("subject"), None if level is None else f"level {level}"]
        return ", ".join(part for part in parts if part) or None
