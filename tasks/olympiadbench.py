"""OlympiadBench: its English, text-only, open-ended mathematics, 674 problems of olympiads.

He et al. 2024, "OlympiadBench: A Challenging Benchmark for Promoting AGI with Olympiad-Level Bilingual Multimodal
Scientific Problems" (arXiv 2402.14008). Apache 2.0 licence. A problem with several answers wants all of them, in any
order. A file of 675 problems goes round as well; use it with --data, and the record's content hash tells the two apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.boxed import BoxedTask
from tasks.interface import Example, Splits
from tasks.sources import Source, read_rows
from tasks.splitting import cut_one_file


def _converted(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the hub, whose answer is a list, in the form of the file that goes round."""
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
    """One file serves all splits, as in CoRP's experiments."""

    name = "olympiadbench"
    version = "2-flexible"
    sources = (SOURCE,)

    def load(self, data: Path | None = None) -> Splits:
        """Return 150 support, 50 select and 100 gate problems; the rest, 374, is the test split."""
        rows = read_rows(data, SOURCE.fields) if data else SOURCE.rows()
        examples = [Example(str(row["id"]), row) for row in rows]
        return cut_one_file(examples, str(data or "olympiadbench"), salt="olympiadbench-1", **SIZES)
