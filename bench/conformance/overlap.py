"""Overlap of two sets of texts: shared 13-grams of words (Brown et al. 2020, appendix C)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile

RUN = 13  # words


def overlap(texts: Sequence[str], others: Sequence[str]) -> int:
    """Return the number of texts that share at least one n-gram with another set.

    The common beginning and end of all texts are removed first, because they are instructions and not questions. An
    n-gram has `RUN` words; punctuation and case are ignored. Texts made from one template still share its n-grams.

    Args:
        texts: Texts to examine, usually of the test split.
        others: Texts to compare with, usually of the other splits.
    """
    words = _strip_common([re.findall(r"\w+", text.casefold()) for text in (*texts, *others)])
    known = {run for text in words[len(texts) :] for run in _runs(text)}
    return sum(any(run in known for run in _runs(text)) for text in words[: len(texts)])


def plain(text: str) -> str:
    """Return a text in lower case, with single spaces."""
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
    if answer is None or not plain(answer):
        return False
    return re.search(rf"(?<!\w){re.escape(plain(answer))}(?!\w)", plain(text)) is not None
