"""Scores of programs, by running their tests."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sandbox import Program, Verdict, judge
from tasks.interface import Score


def judge_all(programs: Sequence[Program], *, allow_unsandboxed: bool) -> list[Score]:
    """Run programs against their tests in the sandbox. The reward is 1 if all tests pass, else 0."""
    verdicts = judge(programs, allow_unsandboxed=allow_unsandboxed)
    return [_score(program, verdict) for program, verdict in zip(programs, verdicts, strict=True)]


def _score(program: Program, verdict: Verdict) -> Score:
    passed = verdict.status == "passed"
    status = verdict.status if verdict.status in ("timeout", "infrastructure") else "ok"
    detail = f"{verdict.status}: {verdict.detail}" if verdict.detail else verdict.status
    return Score(float(passed), passed, program.code, status=status, detail=detail)
