"""What programs do on the examples of their prompts: what they vote for, and how good they look without gold tests."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.sandbox import Program, Verdict, judge
from bench.sandbox.limits import default_timeout
from tasks.code import observer
from tasks.code.examples import cases
from tasks.interface import Vote

VOTE_BY = "results on the prompt's examples, or syntax where it has none"
SIGNAL_BY = "examples in the prompt that the program passes"
# Examples are smaller than tests, and an answer that votes is one of many.
_SHARE_OF_TIMEOUT = 0.25
# In a test, the name of the entry point is the program's, even if it is that of a builtin; so the observer has names of
# its own.
_TEST = """
import builtins

def check(candidate):
    observer = {{}}
    builtins.exec({text!a}, observer)
    return observer["observe"](candidate, {arguments})
"""


@dataclass(frozen=True)
class Behaviour:
    """What was observed of one program.

    Attributes:
        vote: Programs share a vote if they have the same results on the prompt's examples (basis `behaviour`), or the
            same syntax tree but for local names and docstrings where the prompt has none (basis `syntax`). None if
            the program raised on every example, did not end in time, crashed, or is none.
        signal: Share of the examples that it passes; of a prompt without examples, whether it runs at all.
    """

    vote: Vote | None = None
    signal: float = 0.0


def watch_all(programs: Sequence[Program], statements: Sequence[str], *, allow_unsandboxed: bool) -> list[Behaviour]:
    """Run programs on the examples in their prompts, in the sandbox, each pair of program and prompt once.

    Their tests are not used. Calls, digests and comparisons are made by the judge's checker, which tells a program
    nothing but arguments. So a program can forge results of its own and nothing else: it can vote for any behaviour,
    which is the one that it then shows, and it can read its own docstring and pass the examples in it. It cannot change
    another program's vote. A program that the judge lost twice has no vote and no signal.

    Args:
        programs: What to run.
        statements: For each, the whole prompt with signature and docstring.
        allow_unsandboxed: See `bench.sandbox.judge`.
    """
    watched = [_watched(program, statement) for program, statement in zip(programs, statements, strict=True)]
    once = list(dict.fromkeys(watched))
    verdicts = judge(once, allow_unsandboxed=allow_unsandboxed)
    found = {program: _behaviour(verdict) for program, verdict in zip(once, verdicts, strict=True)}
    return [found[program] for program in watched]


def _watched(program: Program, statement: str) -> Program:
    examples = [tuple(case) for case in cases(statement, program.entry_point)]
    arguments = f"{examples!a}, {statement!a}, {program.prompt + program.code!a}"
    test = _TEST.format(text=inspect.getsource(observer), arguments=arguments)
    return replace(program, test=test, timeout=_SHARE_OF_TIMEOUT * default_timeout())


def _behaviour(verdict: Verdict) -> Behaviour:
    if verdict.output is None:
        return Behaviour()
    seen = json.loads(verdict.output)
    vote = None if seen["key"] is None else Vote(seen["key"], seen["basis"])
    return Behaviour(vote, seen["passed"])
