"""Checks that compare a reply with a reference answer, as chosen by each row of `tasks.jsonl`."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from dataclasses import dataclass

from bench.errors import BenchError
from tasks.boxed import flexible
from tasks.interface import Score, Vote
from tasks.maths import last_number, score_answer, vote

LONGEST = 100_000  # maximum characters of a reply that a pattern is searched in
PATTERN_SECONDS = 2.0


@dataclass(frozen=True)
class Check:
    """One way to compare a reply with a reference answer.

    Attributes:
        expects: Description of a valid reference answer, for error messages.
        accepts: Returns whether a reference answer is valid.
        find: Extracts the part of a reply to compare; None if there is none.
        judge: Scores the extracted part against the reference answer; None if the reply is run as a program instead.
        vote: Returns the vote of the extracted part.
        gold: Returns a correct reply, given the reference answer; None if it cannot be derived.
    """

    expects: str
    accepts: Callable[[str], bool]
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


def entry_point(test: str) -> str | None:
    """Return the name of the function under test: the first called name that is neither defined here nor built in.

    For `assert add(1, 2) == 3` this is `add`. Return None if the text is not Python, calls no such function, or defines
    `check`, which the sandbox reserves for tests.
    """
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    own = set(dir(builtins))
    calls: list[tuple[int, int, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                own.update(alias.asname or alias.name.partition(".")[0] for alias in names)
            case ast.Call(func=ast.Name(id=name), lineno=line, col_offset=column):
                calls.append((line, column, name))
    return None if "check" in own else next((name for *_, name in sorted(calls) if name not in own), None)


def _text(reply: str) -> str | None:
    return reply.strip() or None


def _short(reply: str) -> str | None:
    text = _text(reply)
    return text if text and len(text) <= LONGEST else None


CHECKS = {
    "exact": Check("text", lambda _: True, _text, _exact, Vote, str.strip),
    "number": Check(
        "a number, such as 42", lambda a: last_number(a) == a.strip(), last_number, score_answer, vote, str.strip
    ),
    "math": Check(
        "text",
        lambda _: True,
        lambda reply: flexible(reply) or _text(reply),
        score_answer,
        vote,
        r"\boxed{{{}}}".format,
    ),
    "regex": Check("a pattern of the regex package", _is_pattern, _short, _matched, Vote, lambda _: None),
    "python": Check(
        "Python that asserts and calls functions of the reply by name",
        lambda answer: entry_point(answer) is not None,
        _text,
        None,
        lambda _: None,
        lambda _: None,
    ),
}
"""Checks by name."""
