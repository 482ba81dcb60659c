"""Tests of programs that would pass if a part of their test were left out, or a result were believed."""

import ast
import symtable

import pytest

from bench.sandbox import Program, judge
from bench.sandbox.inside import forms

WRONG = "def add(a, b):\n    return 0\n"
RIGHT = "def add(a, b):\n    return a + b\n"
START = "assert add(0, 0) == 0\n"
LATER = {
    "a helper named check in a test function": "def check(a, b):\n    assert a == b\n"
    "def test_one():\n    check(add(1, 2), 3)\n",
    "a helper named check in a test case": "import unittest\ndef check(a, b):\n    assert a == b\n"
    "class T(unittest.TestCase):\n    def test_a(self):\n        check(add(1, 2), 3)\n",
    "a test case in a class": "import unittest\nclass Suite:\n    class Inner(unittest.TestCase):\n"
    "        def test_a(self):\n            self.assertEqual(add(1, 2), 3)\n",
    "a test case in a function": "import unittest\ndef suite():\n    class Inner(unittest.TestCase):\n"
    "        def test_a(self):\n            self.assertEqual(add(1, 2), 3)\n    unittest.main()\nsuite()\n",
    "the second of two test cases": "import unittest\nclass A(unittest.TestCase):\n    def test_a(self):\n"
    "        self.assertEqual(add(0, 0), 0)\nclass B(unittest.TestCase):\n    def test_a(self):\n"
    "        self.assertEqual(add(1, 2), 3)\n",
    "a test case that others extend": "import unittest\nclass A(unittest.TestCase):\n    one, sum = 1, 3\n"
    "    def test_a(self):\n        self.assertEqual(add(self.one, 2), self.sum)\n"
    "class B(A):\n    one, sum = 0, 0 if add(0, 2) == 0 else 2\n",
    "tests that a case inherits": "import unittest\nclass Base:\n    class Shared(unittest.TestCase):\n"
    "        def test_a(self):\n            self.assertEqual(add(1, 2), self.sum)\n"
    "class Mine(Base.Shared):\n    sum = 3\n",
    "a test case beside a check": "import unittest\ndef check(c):\n    assert c(0, 0) == 0\n"
    "class A(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(add(1, 2), 3)\n",
    "a class in a class": "class TestAll:\n    class TestSome:\n        def test_a(self):\n"
    "            assert add(1, 2) == 3\n",
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


def test_a_test_case_that_is_never_defined_passes_nobody():
    test = "import unittest\ndef suite():\n    class Inner(unittest.TestCase):\n        def test_a(self): pass\n"
    found = verdict(RIGHT, START + test)
    assert (found.status, "Inner: these tests were not run" in found.detail) == ("failed", True)


def test_a_test_that_is_a_coroutine_passes_nobody():
    found = verdict(RIGHT, START + "async def test_a():\n    assert add(1, 2) == 3\n")
    assert found.status == "failed"
    assert "test_a: a test that is a coroutine cannot be run" in found.detail


@pytest.mark.parametrize("claim", ["abs(Num(1) - 3.5) < 1e-6", "Num(1) - 3.5 == 0", "round(3.5 - Num(1), 7) == 0"])
def test_a_subclass_of_a_plain_type_is_not_believed_as_the_result_of_an_operator(claim):
    found = verdict(FORGED, f"def check(c):\n    assert {claim}\n", "Num", ("Num",))
    assert found.status == "failed"
    assert "operator made of a plain value" in found.detail


@pytest.mark.parametrize(
    ("test", "pending", "runs_main"),
    [
        ("assert add(1, 2) == 3\n", [], False),
        ("def check(c):\n    assert c(1, 2) == 3\n", ["check"], False),
        ("async def check(c):\n    assert c(1, 2) == 3\n", ["check"], False),
        ("def check(c):\n    assert c(1, 2) == 3\ncheck(add)\n", [], False),
        ("def check(c):\n    assert c(1, 2) == 3\n\uff43heck(add)\n", [], False),  # Python reads this letter as c
        ('TEXT = """\ndef check(c):\n"""\ndef test_a():\n    assert add(1, 2) == 3\n', ["test_a"], False),
        ("class TestAdd:\n    def test_a(self):\n        assert add(1, 2) == 3\n", ["TestAdd"], False),
        ("if __name__ == '__main__':\n    assert add(1, 2) == 3\n", [], True),
        ("def check(c):\n    pass\nif __name__ == '__main__':\n    assert add(1, 2) == 3\n", ["check"], True),
    ],
)
def test_the_text_of_a_test_shows_the_same_form_as_its_tree(test: str, pending: list[str], runs_main: bool) -> None:
    symbols = symtable.symtable(test, "<test>", "exec").get_symbols()
    own = {symbol.get_name() for symbol in symbols if symbol.is_assigned()}
    assert forms.outline(test, own) == (pending, runs_main)
    tree = ast.parse(test)
    assert (forms.pending(tree), forms.runs_main(tree, pending)) == (pending, runs_main)
