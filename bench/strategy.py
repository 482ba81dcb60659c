"""Test-time strategies by name, and the plurality rule that chooses among several answers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bench.errors import UsageError
from tasks.interface import Vote


class Strategy(NamedTuple):
    """What is done with sampled answers, and their number."""

    kind: Literal["pass", "maj", "bon"]
    k: int


def parse_strategy(text: str) -> Strategy:
    """Read `pass@8`, `maj@8` or `bon@8`.

    Raises:
        UsageError: If it is none of them.
    """
    kind, at, number = text.partition("@")
    if at and kind in ("pass", "maj", "bon") and number.isascii() and number.isdigit() and int(number) > 0:
        return Strategy(kind, int(number))  # type: ignore[arg-type]
    raise UsageError(f"{text!r}: expected pass@N, maj@N or bon@N with N of 1 or more")


@dataclass(frozen=True)
class PluralityVote:
    """What the votes on one example came to.

    Attributes:
        winner: Index of the voter whose answer is taken.
        votes: Votes for that answer; 0 where nobody voted.
        tied: Whether another answer had as many.
    """

    winner: int
    votes: int
    tied: bool


def plurality(ballots: Sequence[Vote | None]) -> PluralityVote:
    """Return the answer with most votes; of equals, the one given first; the first voter's where nobody votes.

    Args:
        ballots: One an answer, by descending rank of who gave it; None does not vote.

    Raises:
        ValueError: If there are none.
    """
    if not ballots:
        raise ValueError("an election without a ballot has no winner")
    counts = Counter(vote for vote in ballots if vote is not None)
    if not counts:
        return PluralityVote(0, 0, tied=False)
    choice, votes = counts.most_common(1)[0]  # of equal counts, the one met first
    return PluralityVote(ballots.index(choice), votes, tied=sum(n == votes for n in counts.values()) > 1)
