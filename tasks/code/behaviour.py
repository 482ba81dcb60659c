"""Behaviour of programs on the examples in their prompts, for votes and a quality signal without the gold tests."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.sandbox import Program, Verdict, judge
from bench.sandbox.timeout import default_timeout
from tasks.code import observer
from tasks.code.examples import cases
from tasks.interface import Vote

VOTE_BY = "results on the prompt's examples, or syntax where it has none"
SIGNAL_BY = "examples in the prompt that the program passes"
# Fraction of the timeout of tests. Examples are smaller than tests, and each vote needs many programs to be run.
_SHARE_OF_TIMEOUT = 0.25
# In a test, the entry point's name refers to the program, even if it is the name of a builtin. So the observer runs in
# its own namespace.
_TEST = """
import builtins

def check(candidate):
    observer = {{}}
    builtins.exec({text!a}, observer)
    return observer["observe"](candidate, {arguments})
"""


@dataclass(frozen=True)
class Behaviour:
    """Observed behaviour of one program.

    Attributes:
        vote: Vote of the program. Programs share a vote if they return the same results on the prompt's examples (basis
            `behaviour`). If the prompt has no examples, programs share a vote if their syntax trees are equal, except
            for local names and docstrings (basis `syntax`). None if the program raised on every example, did not end in
            time, crashed, or is not a program.
        signal: Fraction of the examples that the program passes. For a prompt without examples, 1 if the program runs.
    """

    vote: Vote | None = None
    signal: float = 0.0


def observe_all(programs: Sequence[Program], statements: Sequence[str], *, allow_unsandboxed: bool) -> list[Behaviour]:
    """Run programs in the sandbox on the examples in their prompts. Equal pairs of program and prompt run once.

    The programs' tests are not used. The sandbox's checker makes all calls, digests and comparisons, and passes only
    arguments to a program. So a program can forge only its own results: it can vote for any behaviour by showing it,
    and it can read its own docstring and pass the examples there. It cannot change another program's vote. A program
    whose process was lost twice has no vote and signal 0.

    Args:
        programs: Programs to run.
        statements: Prompt of each program, with signature and docstring.
        allow_unsandboxed: See `bench.sandbox.judge`.
    """
    observed = [_observed(program, statement) for program, statement in zip(programs, statements, strict=True)]
    unique = list(dict.fromkeys(observed))
    verdicts = judge(unique, allow_unsandboxed=allow_unsandboxed)
    found = {program: _behaviour(verdict) for program, verdict in zip(unique, verdicts, strict=True)}
    return [found[program] for program in observed]


def _observed(program: Program, statement: str) -> Program:
    """Return the program with the observer in place of its tests."""
    examples = [tuple(case) for case in cases(statement, program.entry_point)]
    arguments = f"{examples!a}, {statement!a}, {program.prompt + program.code!a}"
    test = _TEST.format(text=inspect.getsource(observer), arguments=arguments)
    return replace(program, test=test, packages=(), classes=(), timeout=_SHARE_OF_TIMEOUT * default_timeout())


def _behaviour(verdict: Verdict) -> Behaviour:
    if verdict.output is None:
        return Behaviour()
    output = json.loads(verdict.output)
    vote = None if output["key"] is None else Vote(output["key"], output["basis"])
    return Behaviour(vote, output["passed"])
