"""The columns of the tables are pinned: columns.txt has their names and types in order.

    python tests/reports/frames/test_columns.py

rewrites the file. Note a column that was renamed, moved or removed in CHANGELOG.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from bench.records.rows import Frozen
from reports.frames.columns import Column, Part
from reports.frames.frames import Frames
from reports.frames.tables import TABLES

PINNED = Path(__file__).with_name("columns.txt")


def columns() -> str:
    """Return one line for each column."""
    return "".join(f"{table.name}.{each.name} {each.kind}\n" for table in TABLES for each in table.columns)


def test_the_columns_are_the_pinned_ones() -> None:
    assert columns() == PINNED.read_text(), "columns changed; run: python tests/reports/frames/test_columns.py"


def test_each_column_has_a_name_of_its_own_and_a_sentence() -> None:
    for table in TABLES:
        assert len({column.name for column in table.columns}) == len(table.columns)
        assert [column.name for column in table.columns if not column.sentence.endswith((".", "`."))] == []
        assert [column.name for column in table.columns if "None" in column.sentence] == []


def test_each_table_is_a_frame() -> None:
    assert [table.name for table in TABLES] == list(Frames.__dataclass_fields__)[: len(TABLES)]


class _Answer(Frozen):
    """An answer.

    Attributes:
        tokens: Number of
            tokens; None if unknown.
        flops: FLOPs. None in older records.
        right: Whether it is right.
        text: The answer.
    """

    tokens: Annotated[int, Field(ge=0)] | None
    flops: int
    right: bool
    text: str | int

    @property
    def price(self) -> float | None:
        """Price of the answer; None without a rate."""
        return self.flops / 2


def test_a_part_takes_types_and_sentences_from_its_class() -> None:
    part = Part(_Answer, "tokens", "flops", "right", "price", words={"right": "Right."}, answer="text")
    assert part.columns == (
        Column("tokens", "integer", "Number of tokens; missing if unknown."),
        Column("flops", "number", "FLOPs. Missing in older records."),
        Column("right", "flag", "Right."),
        Column("price", "number", "Price of the answer; missing without a rate."),
        Column("answer", "text", "The answer."),
    )
    made = _Answer(tokens=3, flops=4, right=True, text="42")
    assert part.of(made) == {"tokens": 3, "flops": 4, "right": True, "price": 2.0, "answer": "42"}
    assert part.of(None) == {"tokens": None, "flops": None, "right": None, "price": None, "answer": None}


if __name__ == "__main__":
    PINNED.write_text(columns())
