r"""OlympiadBench: 674 olympiad problems, the English, text-only, open-ended mathematics part.

    Row:     {"id": 1, "problem": "What is $\\sqrt{50}$ in simplest form?", "answer": "5\\sqrt{2}"}
    Prompt:  What is $\sqrt{50}$ in simplest form? Solve this problem step by step. Put the final answer, and nothing
             else, into \boxed{}; ...
    Answer:  \boxed{5\sqrt2}

He et al. 2024, "OlympiadBench: A Challenging Benchmark for Promoting AGI with Olympiad-Level Bilingual Multimodal
Scientific Problems" (arXiv 2402.14008). Apache 2.0 licence. If a problem has several answers, all of them are required,
in any order. A version with 675 problems also exists; it can be used with --data. The content hash in the record shows
which version was used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.boxed import BoxedTask
from tasks.interface import Example, Splits
from tasks.sources import Source, read_rows
from tasks.splitting import cut_one_file


def _converted(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row of the hub, whose answer is a list, into the form of the 675-problem file."""
    context = f"{row['context']}\n\n" if row.get("context") else ""
    return {"id": row["id"], "problem": context + row["question"], "answer": ",".join(row["final_answer"])}


SOURCE = Source(
    task="olympiadbench",
    id="Hothan/OlympiadBench",
    config="OE_TO_maths_en_COMP",
    splits=("train",),
    revision="91184b52131e7fc9455fef848035173aea8cc01a",
    fields={"id": int, "problem": str, "answer": str},
    sha256=None,
    convert=_converted,
)
SIZES = {"support": 150, "select": 50, "gate": 100}


class OlympiadBench(BoxedTask):
    """All splits come from the same 674 problems, as in CoRP's experiments."""

    name = "olympiadbench"
    version = "2-flexible"
    sources = (SOURCE,)

    def load(self, data: Path | None = None) -> Splits:
        """Return 150 support, 50 select and 100 gate problems; the other 374 are the test split."""
        rows = read_rows(data, SOURCE.fields) if data else SOURCE.rows()
        examples = [Example(str(row["id"]), row) for row in rows]
        return cut_one_file(examples, str(data or "olympiadbench"), salt="olympiadbench-1", **SIZES)
