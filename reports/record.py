"""Compact record of a finished run: its result, and which test items it answered correctly.

The leaderboard is made from these. A record file, such as those in reports/records, leaves out the journal, the texts
of the samples and the artifact:

    {"result": {...}, "items": "ddf26b57...", "verdicts": ["1011-0...", "1111-0..."], "clusters": null}
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from bench.records.schema import Result
from bench.settings import form

RIGHT, WRONG, UNJUDGED = "1", "0", "-"
Verdicts = Annotated[str, form("^[01-]*$", "one character for each item: 0 wrong, 1 right, - not judged")]


class Record(BaseModel):
    """Compact record of one run.

    Attributes:
        result: Content of the run's result.json.
        items: SHA-256 of the ids of the test items, in order; empty for a run without test answers.
        verdicts: Verdicts on the answers of each row of the result that has answers of its own, which gated rows do
            not have; the base's first. One character per test item: 1 correct, 0 wrong, - not judged.
        clusters: Label of each test item, equal for items that belong together, such as parts of one problem; None if
            no two of them do, and in records of earlier versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    items: str = ""
    verdicts: tuple[Verdicts, ...] = ()
    clusters: tuple[NonNegativeInt, ...] | None = None

    @property
    def item_set(self) -> tuple[str, str]:
        """What identifies the test items among all tasks: the task, and the digest of the items' ids."""
        return self.result.config.task, self.items

    @property
    def base(self) -> str:
        """Verdicts on the base's answers; empty for a run without test answers."""
        return self.verdicts[0] if self.verdicts else ""

    def of_label(self, label: str) -> str | None:
        """Return the verdicts on the artifact with a label, as trained; None if there is no such artifact."""
        found = zip(self.result.artifacts, self.verdicts[1:], strict=True)  # both leave gated rows out
        return next((text for row, text in found if row.label == label), None)


def outcomes(text: str) -> NDArray[np.int8]:
    """Return the verdicts of a record, shape [items]: 1 correct, 0 wrong, -3 not judged."""
    return np.frombuffer(text.encode(), dtype=np.int8) - np.int8(ord(WRONG))
