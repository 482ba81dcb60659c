"""Tests in the forms that are published: read here, and run in the sandbox."""

import json
from typing import Any

import pytest

from bench.errors import UsageError
from tasks.code.forms import defined_classes, read_test
from tasks.interface import Example
from tasks.jsonl import JsonLines

TASK = JsonLines()
ADD = "def add(a, b):\n    return a {} b\n"
STACK = (
    "class {0}:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        self.items.append(x)"
)
FORMS = {
    "assertions": "assert add(1, 2) == 3\nassert add(2, 2) == 4",
    "check with its call": "def check(candidate):\n    assert candidate(1, 2) == 3\n\ncheck(add)",
    "check with the name as its argument": "def check(add):\n    assert add(1, 2) == 3\n\ncheck(add)",
    "check under a guard": "def check(f):\n    assert f(1, 2) == 3\n\nif __name__ == '__main__':\n    check(add)",
    "function of pytest": "def test_add():\n    assert add(1, 2) == 3",
    "function that the test calls": "def test_add(a, b, c):\n    assert add(a, b) == c\n\ntest_add(1, 2, 3)",
    "parameters of pytest": "import pytest\n@pytest.mark.parametrize('a, b', [(1, 2), pytest.param(0, 5, id='x')])\n"
    "@pytest.mark.parametrize('c', [0])\ndef test_add(a, b, c):\n    assert add(a, b) == a + b + c",
    "class of pytest": "class TestAdd:\n    def setup_method(self, method):\n        self.one = 1\n"
    "    def test_add(self):\n        assert add(self.one, 2) == 3",
    "main function under a guard": "def run():\n    assert add(1, 2) == 3\n\nif __name__ == '__main__':\n    run()",
    "parameters of a class": "import pytest\n@pytest.mark.parametrize('d', [{'a': 1}])\nclass TestAdd:\n"
    "    def test_add(self, d):\n        assert add(d['a'], 2) == 3",
    "output replaced by hand": "import io, sys\nsys.stdout = io.StringIO()\nassert add(1, 2) == 3",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.one = 1\n"
    "    def test_add(self):\n        self.assertEqual(add(self.one, 2), 3)\n",
    "unittest with main": "from unittest import TestCase, main\nclass T(TestCase):\n    def test_add(self):\n"
    "        self.assertAlmostEqual(add(0.1, 0.2), 0.3)\nif __name__ == '__main__':\n    main()",
    "unittest with main at once": "import unittest\nclass T(unittest.TestCase):\n    def test_add(self):\n"
    "        self.assertEqual(add(1, 2), 3)\nunittest.main(argv=[''], exit=False)",
    "unittest with a runner": "import unittest\nclass T(unittest.TestCase):\n    def test_add(self):\n"
    "        self.assertEqual(add(1, 2), 3)\n"
    "unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))",
    "doctest": ">>> add(1, 2)\n3",
    "doctest in prose": "Add two numbers.\n\n>>> x = add(1, 2)\n>>> x\n3\n>>> add(1, None)  # doctest: +ELLIPSIS\n"
    "Traceback (most recent call last):\n    ...\nTypeError: unsupported operand type(s) for ...",
    "doctest in a docstring": '"""\n>>> add(1, 2)\n3\n"""\n',
    "import from a module": "from solution import add\n\ndef test_add():\n    assert add(1, 2) == 3",
    "import under another name": "from .main import (\n    add as plus,\n)\nassert plus(1, 2) == 3",
    "numpy": "import numpy as np\nassert (np.array([add(1, 2)]) == np.array([3])).all()\n"
    "assert np.allclose(add(0.1, 0.2), 0.3)",
    "pytest.approx": "import pytest\nassert add(0.1, 0.2) == pytest.approx(0.3)",
    "higher-order functions": "from functools import reduce\nassert reduce(add, [1, 2]) == 3\n"
    "assert list(map(add, [1], [2])) == [3]",
    "a module without its import": "assert math.isclose(add(0.1, 0.2), 0.3)",
    "old line ends": "assert add(1, 2) == 3\rassert add(2, 2) == 4\r",
    "windows line ends": "for i in range(2):\r\n\tassert add(i, i + 1) == 2 * i + 1\r\n",
    "raise": "if add(1, 2) != 3:\n    raise ValueError('wrong')",
    "list of assertions as text": json.dumps(["assert add(1, 2) == 3", "assert add(2, 2) == 4"]),
}


def example(answer: Any) -> Example:
    from tasks.jsonl import _example

    return _example({"prompt": "x", "answer": answer, "check": "python"}, "rows.jsonl, line 1")


def right(answer: Any, reply: str) -> bool:
    return TASK.score(example(answer), f"```python\n{reply}\n```").correct


@pytest.mark.parametrize("form", FORMS)
def test_each_published_form_runs_and_tells_right_from_wrong(form: str) -> None:
    assert right(FORMS[form], ADD.format("+"))
    assert not right(FORMS[form], ADD.format("-"))


def test_a_list_of_assertions_runs_as_one_test() -> None:
    assert right(["assert add(1, 2) == 3", "assert add(2, 2) == 4"], ADD.format("+"))
    assert not right(["assert add(0, 0) == 0", "assert add(2, 2) == 4"], ADD.format("-"))


@pytest.mark.parametrize("name", ["Stack", "stack"])
def test_classes_are_used_by_name(name: str) -> None:
    test = f"s = {name}()\ns.push(1)\nassert s.items == [1]"
    assert right(test, STACK.format(name))
    assert not right(test, STACK.format(name).replace("append(x)", "clear()"))
    check = f"def check(push):\n    assert push(1) is None\n\ncheck({name}().push)"
    assert right(check, STACK.format(name))


def test_a_test_sees_what_the_program_prints() -> None:
    test = (
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    hello()\n"
        "assert out.getvalue() == 'hi\\n'"
    )
    assert right(test, "def hello():\n    print('hi')")
    assert not right(test, "def hello():\n    print('ho')")


def test_a_program_may_be_named_as_a_module() -> None:
    assert right("assert bisect([1, 2], 1) == 7", "def bisect(a, x):\n    return 7")


def test_own_exceptions_are_expected_by_name() -> None:
    test = "import pytest\nwith pytest.raises(BadValue, match='no'):\n    f(-1)"
    code = "class BadValue(Exception): pass\ndef f(x):\n    raise {}('no')"
    assert right(test, code.format("BadValue"))
    assert not right(test, code.format("KeyError"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("def check(candidate):\n    assert candidate(1, 2) == 3", "it does not call its check; add a line"),
        ("assert 1 == 1", "it calls no function of the reply by name"),
        ("assert add", "it calls no function of the reply by name"),
        ("", "text is expected"),
        (["assert add(1, 2) == 3", 4], "text is expected"),
        ("add(1, 2)", "it asserts nothing, so every reply would pass"),
        ("assert add(1, 2 == 3", "it is not Python"),
        ("console.assert(add(1, 2) === 3)", "it is not Python"),
        (
            "import pandas\nassert add(1, 2) == 3",
            "it imports pandas; tests may import the standard library,",
        ),
        ("def test_add(tmp_path):\n    assert add(1, 2) == 3", "it uses fixtures (tmp_path)"),
        ("class TestAdd:\n    def test_add(self, capsys):\n        assert add(1, 2) == 3", "it uses fixtures (capsys)"),
        ("def run():\n    assert add(1, 2) == 3", "nothing calls its part that uses add"),
        (
            "def run():\n    test_add(1)\ndef test_add(x):\n    assert add(x, 2) == 3",
            "nothing calls its part that uses add",
        ),
        ("async def test_add():\n    assert add(1, 2) == 3", "test_add is asynchronous"),
        (
            "import builtins\nbuiltins.input = lambda: '5'\nassert f() == 5",
            "it replaces builtins.input, which",
        ),
        ("import sys\nsys.stdin = None\nassert f() == 5", "it replaces sys.stdin, which the program"),
        (
            "from unittest.mock import patch\nwith patch('x'):\n    assert f() == 5",
            "it patches names, which",
        ),
    ],
)
def test_a_test_that_cannot_work_is_refused_with_the_reason(answer: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        example(answer)
    assert str(caught.value).startswith("rows.jsonl, line 1: field 'answer' is ")
    assert message in str(caught.value)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    read_test.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"it imports pytest, which is not installed here .pip install pytest"):
            example("import pytest\nassert add(1, 2) == 3")
    finally:
        read_test.cache_clear()


def test_the_entry_point_is_the_first_name_that_is_called() -> None:
    assert read_test("assert LIMIT < f(g(1))").entry_point == "f"
    assert read_test("def eq(a, b):\n    return a == b\nassert eq(add(1), 2)").entry_point == "add"
    assert read_test("assert list(map(add, [1], [2])) == [3]").entry_point == "add"
    assert read_test("assert Solution().add(1, 2) == 3").classes == ("Solution",)
    assert read_test("t = BST()\nt.insert(1)\nassert t.find(1) < MAX").classes == ("BST",)
    assert read_test("assert Find_Max([1]) == f(2) == MAX").classes == ()


def test_classes_of_a_published_solution_are_those_that_the_test_names() -> None:
    solution = "class Pair: pass\nclass Other: pass\ndef f(x): return 1"
    assert defined_classes(solution, "assert f([Pair()]) == 1") == ("Pair",)
    assert defined_classes("class (", "assert f(Pair())") == ()
