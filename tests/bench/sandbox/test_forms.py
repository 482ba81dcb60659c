"""Tests of programs that would pass if a part of their test were left out, or a result were believed."""

import pytest

from bench.sandbox import Program, judge

WRONG = "def add(a, b):\n    return 0\n"
RIGHT = "def add(a, b):\n    return a + b\n"
START = "assert add(0, 0) == 0\n"
LATER = {
    "a helper named check in a test function": "def check(a, b):\n    assert a == b\n"
    "def test_one():\n    check(add(1, 2), 3)\n",
    "a helper named check in a test case": "import unittest\ndef check(a, b):\n    assert a == b\n"
    "class T(unittest.TestCase):\n    def test_a(self):\n        check(add(1, 2), 3)\n",
    "a test function in a list": "def test_a():\n    assert add(1, 2) == 3\nTESTS = [test_a]\n",
    "assertions under the main guard": "def test_a():\n    assert add(0, 0) == 0\n"
    "if __name__ == '__main__':\n    assert add(1, 2) == 3\n",
}
FORGED = """
class Z(float):
    def __abs__(self): return self
    def __round__(self, digits=None): return self
class Num:
    def __init__(self, *values): pass
    def __sub__(self, other): return Z(0.0)
    __rsub__ = __sub__
"""


def verdict(code, test, entry_point="add", classes=()):
    (found,) = judge([Program(code=code, test=test, entry_point=entry_point, classes=classes)])
    return found


@pytest.mark.parametrize("test", LATER.values(), ids=LATER)
def test_each_part_of_a_test_is_run(test):
    assert verdict(WRONG, START + test).status == "failed"
    assert verdict(RIGHT, START + test).status == "passed"


def test_a_test_that_is_a_coroutine_passes_nobody():
    found = verdict(RIGHT, START + "async def test_a():\n    assert add(1, 2) == 3\n")
    assert found.status == "failed"
    assert "test_a: a test that is a coroutine cannot be run" in found.detail


@pytest.mark.parametrize("claim", ["abs(Num(1) - 3.5) < 1e-6", "Num(1) - 3.5 == 0", "round(3.5 - Num(1), 7) == 0"])
def test_a_subclass_of_a_plain_type_is_not_believed_as_the_result_of_an_operator(claim):
    found = verdict(FORGED, f"def check(c):\n    assert {claim}\n", "Num", ("Num",))
    assert found.status == "failed"
    assert "operator made of a plain value" in found.detail
