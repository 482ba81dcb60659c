"""Plurality over several answers to each example: who votes, who wins, and on what basis. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bench.strategy import plurality
from tasks.interface import Vote

T = TypeVar("T")


def elect(
    answers: Sequence[Sequence[str]], ballots: Sequence[Sequence[Vote | None]]
) -> tuple[list[str], dict[str, Any]]:
    """Hold one election an example.

    Args:
        answers: [voters, examples], voters by descending rank.
        ballots: [voters, examples].

    Returns:
        The chosen answers, and for the record: voters; votes by what they were read from; answers without a vote;
        elections that were tied; elections in which nobody voted; and the winner's mean share of the voters.
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
    ask: Callable[[Sequence[str], Sequence[str]], list[T]],
    examples: Sequence[str],
    answers: Sequence[Sequence[str]],
    known: dict[tuple[str, str], T] | None = None,
) -> list[list[T]]:
    """Return what a judge says of answers, asking once for equal answers to one example; behind it code may run.

    Args:
        ask: Takes ids of examples and as many answers; returns one judgement each.
        examples: Ids.
        answers: [voters, examples].
        known: Judgements that are there already, by id and answer; grows.

    Returns:
        [voters, examples].
    """
    known = {} if known is None else known
    pairs = [list(zip(examples, row, strict=True)) for row in answers]
    owed = [pair for pair in dict.fromkeys(pair for row in pairs for pair in row) if pair not in known]
    if owed:
        known.update(zip(owed, ask([i for i, _ in owed], [text for _, text in owed]), strict=True))
    return [[known[pair] for pair in row] for row in pairs]
