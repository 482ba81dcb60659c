"""Parts of the reward of a program: which of the single tests of its task it passes.

A test of a data set is one text, which ends at its first assertion that fails. Here every statement that asserts is
caught by itself, so the others still count:

    assert tally(['a', 'b', 'a']) == {'a': 2, 'b': 1}        {"test 1": 1.0,
    assert tally([]) == {}                                    "test 2": 0.0}
"""

from __future__ import annotations

import ast
import functools
import warnings
from collections.abc import Sequence
from dataclasses import replace

from bench.sandbox import Program, Verdict, judge
from tasks.interface import Score

REWARDS_BY = "the tests, one by one"
_PASSED = "_passed_tests"
_BODIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def rewards_of(
    programs: Sequence[Program], scores: Sequence[Score], *, allow_unsandboxed: bool
) -> list[dict[str, float] | None]:
    """Return which tests each program passes, as `{"test 1": 1.0, "test 2": 0.0}`.

    A correct program passes all of them, and is not run again. Nor is one that did not end in time: it passes none, and
    neither does one that crashes. None if the sandbox failed.

    Args:
        programs: Programs with their tests.
        scores: Their scores, from `judge_all`.
        allow_unsandboxed: See `bench.sandbox.judge`.
    """
    tests = [one_by_one(program.test, program.entry_point) for program in programs]
    parts: list[dict[str, float] | None] = [
        None if score.status == "infrastructure" else _named(str(int(score.correct)) * count)
        for (_, count), score in zip(tests, scores, strict=True)
    ]
    failed = [i for i, score in enumerate(scores) if score.status == "ok" and not score.correct and tests[i][1] > 1]
    again = [replace(programs[i], test=tests[i][0]) for i in failed]
    for i, verdict in zip(failed, judge(again, allow_unsandboxed=allow_unsandboxed) if again else [], strict=True):
        parts[i] = _parts(verdict, tests[i][1])
    return parts


def _parts(verdict: Verdict, count: int) -> dict[str, float] | None:
    if verdict.status == "infrastructure":
        return None
    return _named(verdict.output if verdict.output is not None and len(verdict.output) == count else "0" * count)


def _named(passed: str) -> dict[str, float]:
    return {f"test {number}": float(each) for number, each in enumerate(passed, 1)}


@functools.lru_cache(maxsize=4096)
def one_by_one(test: str, entry_point: str) -> tuple[str, int]:
    """Return a test that runs all of its assertions and returns a text such as `101`, and their number.

    Statements that assert are counted: at the top level of the test, or in its function `check`. A loop is one of them.
    A test of another form is returned as it is, with the number 1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published tests contain invalid escape sequences
        try:
            tree = ast.parse(test)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return test, 1
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    check = functions.get("check")
    body = tree.body if check is None else check.body
    asserting = {name for name, node in functions.items() if name != "check" and _asserts(node, set())}
    tests = [node for node in body if not isinstance(node, _BODIES) and _asserts(node, asserting)]
    if not tests or entry_point == "check" or (check is not None and _calls(tree, "check")):
        return test, 1
    body[:] = [*ast.parse(f"{_PASSED} = []").body, *(_caught(node) if node in tests else node for node in body)]
    returned = ast.parse(f"return ''.join({_PASSED})" if check else f"def check(_): return ''.join({_PASSED})").body
    body.extend(returned)
    return ast.unparse(ast.fix_missing_locations(tree)), len(tests)


def _caught(statement: ast.stmt) -> ast.stmt:
    (caught,) = ast.parse(
        f"try:\n    pass\nexcept Exception:\n    {_PASSED}.append('0')\nelse:\n    {_PASSED}.append('1')"
    ).body
    assert isinstance(caught, ast.Try)
    caught.body = [statement]
    return caught


def _asserts(node: ast.AST, functions: set[str]) -> bool:
    """Return whether a statement asserts something about a call, itself or by one of these functions of the test."""
    calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    if any(isinstance(function, ast.Name) and function.id in functions for function in calls):
        return True
    return bool(calls) and any(isinstance(part, (ast.Assert, ast.Raise)) for part in ast.walk(node))


def _calls(tree: ast.AST, name: str) -> bool:
    called = (part.func for part in ast.walk(tree) if isinstance(part, ast.Call))
    return any(isinstance(function, ast.Name) and function.id == name for function in called)
