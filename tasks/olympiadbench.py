r"""OlympiadBench: 674 olympiad problems, the English, text-only, open-ended mathematics part.

    Row:     {"id": 1, "problem": "What is $\\sqrt{50}$ in simplest form?", "answer": "5\\sqrt{2}"}
    Prompt:  What is $\sqrt{50}$ in simplest form? Solve this problem step by step. Put the final answer, and nothing
             else, into \boxed{}; ...
    Answer:  \boxed{5\sqrt2}

He et al. 2024, "OlympiadBench: A Challenging Benchmark for Promoting AGI with Olympiad-Level Bilingual Multimodal
Scientific Problems" (arXiv 2402.14008). Apache 2.0 licence. If a problem has several answers, all of them are required,
in any order. A version with 675 problems also exists; it can be used with --data. The content hash in the record shows
which version was used.

Some problems are parts of one: 46 of the 675 begin with the same stem as another, and ask another question about it.
They are cut into one split, as a stem that is known helps with each of its questions.
"""

from __future__ import annotations

from pathlib import Path

from tasks.boxed import BoxedTask, published
from tasks.duplicates import common_stems, grouped
from tasks.interface import Example, Splits
from tasks.sources import Source
from tasks.splitting import cut_one_file, distinct

SOURCE = Source(
    task="olympiadbench",
    id="Hothan/OlympiadBench",
    config="OE_TO_maths_en_COMP",
    splits=("train",),
    revision="91184b52131e7fc9455fef848035173aea8cc01a",
    fields={"id": object, "problem": str, "answer": str},
    sha256=None,
    convert=published,
)
SIZES = {"support": 150, "select": 50, "gate": 100}


class OlympiadBench(BoxedTask):
    """All splits come from the same 674 problems, as in CoRP's experiments."""

    name = "olympiadbench"
    version = "4-flexible"
    sources = (SOURCE,)

    def load(self, data: Path | None = None) -> Splits:
        """Return 150 support, 50 select and 100 gate problems; the other 374 are the test split."""
        rows, origin = SOURCE.load(data, self.field_names), str(data or "olympiadbench")
        examples = distinct((Example(str(row["id"]), row, where) for where, row in rows), origin)
        examples = grouped(examples, common_stems([self.content(example) for example in examples]))
        return cut_one_file(examples, origin, salt="olympiadbench-1", content=self.content, **SIZES)
