import pytest

import tasks.code.parts
from bench.sandbox import Program, Verdict
from tasks.code.parts import one_by_one, rewards_of
from tasks.interface import Score

RIGHT = Score(1.0, True)
WRONG = Score(0.0, False)
LISTED = "import math\nassert f(1) == 1\nassert f(2) == 4, 'two'\nassert math.isclose(f(3), 9)"
CHECK = """
METADATA = {}

def close(found, expected):
    assert abs(found - expected) < 1e-6

def check(candidate):
    assert candidate(1) == 1
    for n in (2, 3):
        close(candidate(n), n * n)
    assert True, "a remark"
    assert candidate(0) == 0
"""


def program(code: str, test: str, name: str = "f") -> Program:
    return Program(code, test, name)


def test_each_assertion_of_a_test_counts_by_itself() -> None:
    codes = ["def f(x):\n    return x", "def f(x):\n    return x ** 2", "def f(x):\n    return 1 / 0"]
    programs = [program(code, test) for test in (LISTED, CHECK) for code in codes]
    scores = [WRONG, RIGHT, WRONG] * 2
    found = rewards_of(programs, scores, allow_unsandboxed=False)
    assert [list((parts or {}).values()) for parts in found] == [
        *([1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
        *([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    ]
    assert all(list(parts or {}) == ["test 1", "test 2", "test 3"] for parts in found)


def test_a_program_that_ends_its_process_or_has_no_function_passes_nothing() -> None:
    crashing = "import os\ndef f(x):\n    if x == 2:\n        os._exit(0)\n    return x * x"
    found = rewards_of([program(crashing, LISTED), program("x = 1", LISTED)], [WRONG] * 2, allow_unsandboxed=False)
    assert [sum((parts or {}).values()) for parts in found] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (RIGHT, {"test 1": 1.0, "test 2": 1.0, "test 3": 1.0}),
        (Score(0.0, False, status="timeout"), {"test 1": 0.0, "test 2": 0.0, "test 3": 0.0}),
        (Score(0.0, False, status="infrastructure"), None),
    ],
)
def test_what_the_score_already_tells_is_not_run_again(monkeypatch, score, expected) -> None:
    monkeypatch.setattr(tasks.code.parts, "judge", None)
    assert rewards_of([program("def f(x): ...", LISTED)], [score], allow_unsandboxed=False) == [expected]


def test_a_sandbox_that_fails_leaves_the_parts_unknown(monkeypatch) -> None:
    monkeypatch.setattr(tasks.code.parts, "judge", lambda *_, **__: [Verdict("infrastructure", "", 0.0, "split")])
    assert rewards_of([program("def f(x): ...", LISTED)], [WRONG], allow_unsandboxed=False) == [None]


@pytest.mark.parametrize(
    "test",
    [
        "assert f(",  # no Python
        "def test_one():\n    assert f(1) == 1\n\ndef test_two():\n    assert f(2) == 2",  # called by name elsewhere
        "def check(f):\n    assert f(1) == 1\n\ncheck(f)\ncheck(f)",
    ],
)
def test_a_test_of_another_form_is_one_part(test: str) -> None:
    assert one_by_one(test, "f") == (test, 1)
    assert rewards_of([program("", test)], [WRONG], allow_unsandboxed=False) == [{"test 1": 0.0}]


def test_a_function_named_check_is_not_replaced() -> None:
    assert one_by_one("assert check(1)\nassert check(2)", "check")[1] == 1
