"""What code tasks share: finding the program in an answer, and having it judged."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.sandbox import Program, Verdict, judge
from tasks.interface import Score

# Whatever the language, since the end of a block that is passed over would be taken for the beginning of one; but not
# right after code, where a fence ends what stands in the line.
_BLOCK = re.compile(r"(?<![\w)\]}'\"])```[^`\r\n]*\r?\n(.*?)(?:(?:\r?\n|^)[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def code_block(text: str, name: str) -> str | None:
    """Return the fenced block that defines a function of this name, or the first block; None without a fence.

    An unclosed last fence runs to the end, since decoding may stop there.
    """
    blocks: list[str] = _BLOCK.findall(text)
    defining = [block for block in blocks if definition(block, name) is not None]
    return next(iter(defining + blocks), None)


def definition(code: str, name: str) -> int | None:
    """Return where the last top-level definition of this function begins; None if there is none."""
    found = re.finditer(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.MULTILINE)
    return max((match.start() for match in found), default=None)


def judge_all(programs: Sequence[Program], *, allow_unsandboxed: bool) -> list[Score]:
    """Judge programs in the sandbox: reward 1 if all tests pass."""
    verdicts = judge(programs, allow_unsandboxed=allow_unsandboxed)
    return [_score(program, verdict) for program, verdict in zip(programs, verdicts, strict=True)]


def _score(program: Program, verdict: Verdict) -> Score:
    passed = verdict.status == "passed"
    status = verdict.status if verdict.status in ("timeout", "infrastructure") else "ok"
    detail = f"{verdict.status}: {verdict.detail}" if verdict.detail else verdict.status
    return Score(float(passed), passed, program.code, status=status, detail=detail)
