"""Overlap of two sets of texts: identical texts, and shared 13-grams of words (Brown et al. 2020, appendix C)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

RUN = 13  # words


@dataclass(frozen=True)
class DataOverlap:
    """Overlap of one set of texts with another.

    Attributes:
        texts: Number of texts in the first set.
        same: Number of its texts that also occur in the other set, ignoring white space and case.
        runs: Number of its texts that share at least one n-gram with the other set, or occur in it.
    """

    texts: int
    same: int
    runs: int


def overlap(texts: Sequence[str], others: Sequence[str]) -> DataOverlap:
    """Count the texts that overlap with another set.

    The common beginning and end of all texts are removed first, because they are instructions and not questions. An
    n-gram has `RUN` words; punctuation and case are ignored. Texts made from one template still share its n-grams.

    Args:
        texts: Texts to examine, usually of the test split.
        others: Texts to compare with, usually of the support split.
    """
    words = _strip_common([re.findall(r"\w+", text.casefold()) for text in (*texts, *others)])
    first, second = words[: len(texts)], words[len(texts) :]
    known = {run for text in second for run in _runs(text)}
    whole = {_plain(text) for text in others}
    same = [_plain(text) in whole for text in texts]
    runs = [is_same or any(run in known for run in _runs(text)) for is_same, text in zip(same, first, strict=True)]
    return DataOverlap(len(texts), sum(same), sum(runs))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(RUN)), strict=False)


def _strip_common(texts: Sequence[list[str]]) -> list[list[str]]:
    begin = _common_prefix(texts)
    rest = [text[begin:] for text in texts]
    end = _common_prefix([text[::-1] for text in rest])
    return [text[: len(text) - end] for text in rest]


def _common_prefix(texts: Sequence[Sequence[str]]) -> int:
    """Return the number of words that all texts begin with. For a single text it is 0, not the whole text."""
    if len(texts) < 2:
        return 0
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False)))


def contains_answer(text: str, answer: str | None) -> bool:
    """Return whether a text contains an answer as whole words, ignoring white space and case."""
    if answer is None or not _plain(answer):
        return False
    return re.search(rf"(?<!\w){re.escape(_plain(answer))}(?!\w)", _plain(text)) is not None
