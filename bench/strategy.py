"""Names of test-time strategies, and plurality voting over several answers. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bench.errors import UsageError
from tasks.interface import Vote


class Strategy(NamedTuple):
    """Test-time strategy: its kind (pass@k, majority vote, best-of-k) and the number of samples k."""

    kind: Literal["pass", "maj", "bon"]
    k: int


def parse_strategy(text: str) -> Strategy:
    """Parse a strategy such as `pass@8`, `maj@8` or `bon@8`.

    Raises:
        UsageError: If the text has none of these forms.
    """
    kind, at, number = text.partition("@")
    if at and kind in ("pass", "maj", "bon") and number.isascii() and number.isdigit() and int(number) > 0:
        return Strategy(kind, int(number))  # type: ignore[arg-type]
    raise UsageError(f"{text!r}: expected pass@N, maj@N or bon@N with N of 1 or more")


@dataclass(frozen=True)
class PluralityVote:
    """Result of the vote on one example.

    Attributes:
        winner: Index of the ballot whose answer wins.
        votes: Number of votes for that answer; 0 if every ballot is None.
        tied: Whether another answer has as many votes.
    """

    winner: int
    votes: int
    tied: bool


def plurality(ballots: Sequence[Vote | None]) -> PluralityVote:
    """Return the answer with the most votes. A tie goes to the answer given first; without votes, index 0 wins.

    Args:
        ballots: One vote per answer, best-ranked voter first; None abstains.

    Raises:
        ValueError: If the sequence is empty.
    """
    if not ballots:
        raise ValueError("an empty sequence of ballots has no winner")
    counts = Counter(vote for vote in ballots if vote is not None)
    if not counts:
        return PluralityVote(0, 0, tied=False)
    choice, votes = counts.most_common(1)[0]  # on equal counts, most_common returns the one inserted first
    return PluralityVote(ballots.index(choice), votes, tied=sum(n == votes for n in counts.values()) > 1)
