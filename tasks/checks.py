"""Checks that compare a reply with a reference answer, as chosen by each row of `tasks.jsonl`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.errors import BenchError, UsageError
from tasks.boxed import flexible
from tasks.code.forms import read_test
from tasks.golds import sole
from tasks.interface import Score, Vote
from tasks.maths import last_number, score_answer, vote

LONGEST = 100_000  # maximum characters of a reply that a pattern is searched in
PATTERN_SECONDS = 2.0


@dataclass(frozen=True)
class Check:
    """One way to compare a reply with a reference answer.

    Attributes:
        problem: Returns why a reference answer is not valid, and what is expected; None if it is valid.
        find: Extracts the part of a reply to compare; None if there is none.
        judge: Scores the extracted part against the reference answer; None if the reply is run as a program instead.
        vote: Returns the vote of the extracted part.
        gold: Returns a correct reply, given the reference answer; None if it cannot be derived.
    """

    problem: Callable[[str], str | None]
    find: Callable[[str], str | None]
    judge: Callable[[str, str], Score] | None
    vote: Callable[[str], Vote | None]
    gold: Callable[[str], str | None]


def _exact(answer: str, found: str) -> Score:
    correct = found == answer.strip()
    return Score(float(correct), correct, found)


def _matched(pattern: str, found: str) -> Score:
    import regex

    try:
        correct = regex.search(pattern, found, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        return Score(0.0, False, found, status="timeout", detail=f"looking for the pattern took {PATTERN_SECONDS:g} s")
    return Score(float(correct), correct, found)


def _is_pattern(text: str) -> bool:
    try:
        import regex
    except ImportError as error:
        raise BenchError("check 'regex' needs the package regex: pip install 'bench-post-training[tasks]'") from error
    try:
        regex.compile(text)
    except (regex.error, OverflowError, RecursionError, ValueError):
        return False
    return True


def _none(answer: str) -> None:
    return None


def _not_a_number(answer: str) -> str | None:
    return None if last_number(answer) == answer.strip() else "expected a number in digits, such as 42 or 0.0000001"


def _not_sole(answer: str) -> str | None:
    try:
        sole(answer)
    except UsageError as error:
        return str(error).partition(", ")[2]
    return None


def _not_a_pattern(answer: str) -> str | None:
    return None if _is_pattern(answer) else "expected a pattern of the regex package"


def _not_a_test(answer: str) -> str | None:
    problem = read_test(answer).problem
    return problem and f"{problem}; expected Python that asserts and calls functions of the reply by name"


def _text(reply: str) -> str | None:
    return reply.strip() or None


def _short(reply: str) -> str | None:
    text = _text(reply)
    return text if text and len(text) <= LONGEST else None


CHECKS = {
    "exact": Check(_none, _text, _exact, Vote, str.strip),
    "number": Check(_not_a_number, last_number, score_answer, vote, str.strip),
    "math": Check(_not_sole, lambda reply: flexible(reply) or _text(reply), score_answer, vote, r"\boxed{{{}}}".format),
    "regex": Check(_not_a_pattern, _short, _matched, Vote, lambda _: None),
    "python": Check(_not_a_test, _text, None, lambda _: None, lambda _: None),
}
"""Checks by name."""
