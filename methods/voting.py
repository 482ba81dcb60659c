"""Plurality vote over several answers per example. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from bench.strategy import plurality
from tasks.interface import Vote

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


def elect(
    answers: Sequence[Sequence[str]], ballots: Sequence[Sequence[Vote | None]]
) -> tuple[list[str], dict[str, Any]]:
    """Choose one answer per example by plurality vote.

    Ties go to the answer first given by the best-ranked voter. Without any vote, the best-ranked voter's answer is
    taken. See `bench.strategy.plurality`.

    Args:
        answers: Answers, shape [voters, examples], voters by descending rank.
        ballots: Vote of each answer, same shape; None for an answer without a vote.

    Returns:
        The chosen answers, shape [examples], and a report: `voters`; `votes`, the number of votes by basis;
        `without_vote`, answers without a vote; `ties` and `nobody_voted`, numbers of examples with a tie and without
        any vote; `agreement`, the winner's mean share of the voters.
    """
    elections = [plurality(column) for column in zip(*ballots, strict=True)]
    chosen = [answers[election.winner][i] for i, election in enumerate(elections)]
    cast = [vote for row in ballots for vote in row]
    report = {
        "voters": len(answers),
        "votes": dict(sorted(Counter(vote.basis for vote in cast if vote is not None).items())),
        "without_vote": sum(vote is None for vote in cast),
        "ties": sum(election.tied for election in elections),
        "nobody_voted": sum(election.votes == 0 for election in elections),
        "agreement": sum(election.votes for election in elections) / (len(answers) * len(elections)),
    }
    return chosen, report


def ask_once(
    ask: Callable[[Sequence[Key], Sequence[str]], list[T]],
    examples: Sequence[Key],
    answers: Sequence[Sequence[str]],
    known: dict[tuple[Key, str], T] | None = None,
) -> list[list[T]]:
    """Call `ask` once per distinct pair of example and answer, because it may be slow (it can execute code).

    Args:
        ask: Function of examples and as many answers; returns one result each.
        examples: Ids or indices of the examples.
        answers: Answers, shape [voters, examples].
        known: Results by example and answer that need no call. New results are added to it.

    Returns:
        Results, shape [voters, examples].
    """
    known = {} if known is None else known
    pairs = [list(zip(examples, row, strict=True)) for row in answers]
    new = [pair for pair in dict.fromkeys(pair for row in pairs for pair in row) if pair not in known]
    if new:
        known.update(zip(new, ask([i for i, _ in new], [text for _, text in new]), strict=True))
    return [[known[pair] for pair in row] for row in pairs]
