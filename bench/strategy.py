"""Names of test-time strategies, and plurality voting over several answers. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from bench.errors import UsageError
from tasks.interface import Vote

STRATEGIES = "greedy, maj@K, bon@K, pass@K or pass@K,K,... with ascending K of 1 to 9999, such as maj@8 or pass@1,4,16"
"""Forms of `--strategy`, for error messages."""


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


def run_strategy(text: str) -> Strategy | None:
    """Return the strategy of a run, from the text of `--strategy`; None for greedy answers.

    A curve such as `pass@1,2,4` is the strategy of its largest k, whose samples all k share.

    Raises:
        UsageError: If it is not a strategy, or the k of a curve do not ascend.
    """
    if text == "greedy":
        return None
    ks = curve_of(text)
    return Strategy("pass", ks[-1]) if ks else parse_strategy(text)


def curve_of(text: str) -> tuple[int, ...]:
    """Return the k of pass@k, ascending, such as (1, 2, 4) for `pass@1,2,4`; empty for another strategy.

    Raises:
        UsageError: If they are not positive numbers in ascending order.
    """
    kind, _, numbers = text.partition("@")
    if kind != "pass":
        return ()
    try:
        ks = tuple(parse_strategy(f"pass@{number}").k for number in numbers.split(","))
    except UsageError:
        ks = ()
    if not ks or any(a >= b for a, b in pairwise(ks)):
        raise UsageError(f"--strategy {text}: expected {STRATEGIES}")
    return ks


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
