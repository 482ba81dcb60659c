from collections.abc import Sequence
from typing import Any

import pytest

import tasks.code.scoring
from bench.errors import Refused
from bench.sandbox import Program, Verdict
from tasks.code.scoring import judge_all

F = "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("verdict", "reward", "correct", "status", "detail"),
    [
        (Verdict("passed", "", 0.1, "split"), 1.0, True, "ok", "passed"),
        (Verdict("failed", "line 2", 0.1, "split"), 0.0, False, "ok", "failed: line 2"),
        (Verdict("crashed", "exit status 0", 0.1, "split"), 0.0, False, "ok", "crashed: exit status 0"),
        (Verdict("timeout", "", 0.1, "split"), 0.0, False, "timeout", "timeout"),
        (Verdict("infrastructure", "lost", 0.1, "split"), 0.0, False, "infrastructure", "infrastructure: lost"),
    ],
)
def test_a_verdict_is_converted_to_its_score(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, reward: float, correct: bool, status: str, detail: str
) -> None:
    monkeypatch.setattr(tasks.code.scoring, "judge", lambda programs, **_: [verdict])
    (score,) = judge_all([Program("code", "test", "f")], allow_unsandboxed=False)
    assert (score.reward, score.correct, score.status, score.detail) == (reward, correct, status, detail)
    assert score.answer == "code"


def test_programs_are_judged_by_the_sandbox_in_order() -> None:
    test = "def check(candidate):\n    assert candidate(3) == 3\n"
    scores = judge_all([Program(F, test, "f"), Program("def f(x): ...", test, "f")] * 2, allow_unsandboxed=False)
    assert [score.correct for score in scores] == [True, False, True, False]


@pytest.mark.parametrize("allowed", [True, False])
def test_only_the_sandbox_decides_whether_it_is_too_weak(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    passed: list[Any] = []

    def refusing(programs: Sequence[Program], *, allow_unsandboxed: bool) -> list[Verdict]:
        passed.append(allow_unsandboxed)
        raise Refused("too weak")

    monkeypatch.setattr(tasks.code.scoring, "judge", refusing)
    with pytest.raises(Refused, match="too weak"):
        judge_all([Program(F, "", "f")], allow_unsandboxed=allowed)
    assert passed == [allowed]
