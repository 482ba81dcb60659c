"""How much of one set of texts stands in another: whole texts, and runs of 13 words (Brown et al. 2020, appendix C)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

RUN = 13  # words


@dataclass(frozen=True)
class DataOverlap:
    """How many texts of one set stand in another.

    Attributes:
        texts: Size of the set.
        same: Texts that the other set has, white space and case aside.
        runs: Texts that have at least one run of words in common with the other set, those that are the same included.
    """

    texts: int
    same: int
    runs: int


def overlap(texts: Sequence[str], others: Sequence[str]) -> DataOverlap:
    """Compare texts with others, leaving out what all of both begin and end with: the instructions around a question.

    A run is of `RUN` words, punctuation and case aside. Texts from one template share the runs inside it, too.

    Args:
        texts: Usually of the test split.
        others: Usually of the support split.
    """
    words = _without_frame([re.findall(r"\w+", text.casefold()) for text in (*texts, *others)])
    ours, theirs = words[: len(texts)], words[len(texts) :]
    known = {run for text in theirs for run in _runs(text)}
    whole = {_plain(text) for text in others}
    same = [_plain(text) in whole for text in texts]
    runs = [is_same or any(run in known for run in _runs(text)) for is_same, text in zip(same, ours, strict=True)]
    return DataOverlap(len(texts), sum(same), sum(runs))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(RUN)), strict=False)


def _without_frame(texts: Sequence[list[str]]) -> list[list[str]]:
    begin = _common(texts)
    rest = [text[begin:] for text in texts]
    end = _common([text[::-1] for text in rest])
    return [text[: len(text) - end] for text in rest]


def _common(texts: Sequence[Sequence[str]]) -> int:
    """Words that all of several texts begin with; none of a single text, which would be all of it."""
    if len(texts) < 2:
        return 0
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False)))


def stands_in(answer: str | None, text: str) -> bool:
    """Say whether an answer stands in a text as whole words, white space and case aside."""
    if answer is None or not _plain(answer):
        return False
    return re.search(rf"(?<!\w){re.escape(_plain(answer))}(?!\w)", _plain(text)) is not None
