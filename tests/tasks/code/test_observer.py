import json
import math
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.code.observer import canonical, digest, normalised, observe

STATEMENT = 'def f(x):\n    """Doubles x."""\n'
SOURCE = "def f(x):\n    return 2 * x\n"
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.booleans() | st.text(max_size=4) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 3) | st.text(max_size=1), inner, max_size=3)
        | st.frozensets(st.integers(0, 5) | st.text(max_size=1))
    ),
    max_leaves=6,
)


Point = namedtuple("Point", "x y")


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


class TestCanonical:
    @given(PLAIN, PLAIN)
    def test_it_is_the_same_for_equal_values_and_for_no_others(self, a: Any, b: Any) -> None:
        assert (canonical(a) == canonical(b)) == (a == b)

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (1, 1.0),
            (True, 1),
            (0.1 + 0.2, 0.3),
            (2.9999999999999996, 3),
            (-0.0, 0),
            (math.nan, -math.nan),
            ({1, 2, 33}, frozenset([33, 2, 1])),
            ({1: 2, 3: 4}, {3: 4, 1: 2}),
            (Counter("aab"), {"b": 1, "a": 2}),
            (OrderedDict(a=1), {"a": 1.0}),
            (iter([1]), iter((1,))),
            (lambda: 1, lambda: 2),
            (Point(1, 2), (1, 2)),
            (Level.HIGH, 3),
            (Word.YES, "yes"),
            (memoryview(b"a"), memoryview(b"a")),
        ],
    )
    def test_values_that_compare_equal_have_the_same_text(self, a: Any, b: Any) -> None:
        assert canonical(a) == canonical(b)

    def test_other_values_have_other_texts(self) -> None:
        values = [0, 1, 1.5, 10**5000, 10**5000 + 1, math.inf, -math.inf, math.nan, 1e-300, None, "1", b"1", "", "None"]
        values += [[], [1], (), (1,), deque([1]), iter([1]), {1}, {1: 1}, [[1]], ["1,1"], ["1", "1"], int, len, 1j]
        values += [range(3), [0, 1, 2], Decimal("1.5"), "\n", "\\n", "\ud800"]
        assert len({canonical(value) for value in values}) == len(values)


class TestNormalised:
    @pytest.mark.parametrize(
        "other",
        [
            "def f(y):\n    '''Doubles.'''\n    z = y\n    return 2 * z",
            "def f( a ):   # a remark\n\n    b = a; 'bare text'\n    return (2 * b)",
        ],
    )
    def test_names_of_locals_docstrings_and_layout_make_no_difference(self, other: str) -> None:
        assert normalised("def f(x):\n    y = x\n    return 2 * y") == normalised(other)

    NAME = st.sampled_from(["a", "b", "xs", "tmp", "é", "_", "result"])

    @given(st.lists(NAME, min_size=6, max_size=6, unique=True))
    def test_any_renaming_of_locals_is_the_same_program(self, names: list[str]) -> None:
        form = (
            "def g(n): return n\n"
            "def f({0}, *{1}):\n"
            "    def {2}({3}=1): return {3} + g({0})\n"
            "    try: {4} = [{5} for {5} in {1} if {5} > {2}()]\n"
            "    except ValueError as {5}: raise {5}\n"
            "    return sorted({4}, key=lambda {3}: -{3})\n"
        )
        assert normalised(form.format(*names)) == normalised(form.format(*"uvwxyz"))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("def f(x): return 2 * x", "def f(x): return 3 * x"),
            ("def f(x): return 2 * x", "def f(x): return x * 2"),
            ("def f(x): return max(x)", "def f(x): return min(x)"),
            ("def f(x, y): return x - y", "def f(x, y): return y - x"),
            ("def f(x): return g(x)", "def f(x): return h(x)"),
            ("def f(x): return x.real", "def f(x): return x.imag"),
            ("def f(x): return 'a'", "def f(x): return 'b'"),
            ("def f(x): return x", "def f(x):\n    return x\nf = None"),
            # One of two variables with the same name is renamed.
            ("def f(x):\n h = lambda max: 1\n return max(x)", "def f(x):\n h = lambda min: 1\n return min(x)"),
            ("g = 1\nk = 2\ndef f(x):\n h = lambda g: 1\n return g",
             "g = 1\nk = 2\ndef f(x):\n h = lambda k: 1\n return k"),
            ("import a, b\ndef f(x):\n h = lambda a: 1\n return a",
             "import a, b\ndef f(x):\n h = lambda b: 1\n return b"),
            ("from math import *\ndef f(x):\n h = lambda e: 1\n return e",
             "from math import *\ndef f(x):\n h = lambda pi: 1\n return pi"),
            ("def f(x):\n class A: a = 1; b = 2\n return A.a", "def f(x):\n class A: b = 1; a = 2\n return A.a"),
            ("def g(a, b): return a - b\ndef f(x): return g(a=x, b=1)",
             "def g(b, a): return b - a\ndef f(x): return g(a=x, b=1)"),
        ],
    )  # fmt: skip
    def test_programs_that_may_behave_differently_differ(self, one: str, other: str) -> None:
        assert normalised(one) != normalised(other)

    @pytest.mark.parametrize("text", ["def f(", "    return 1", "I cannot.", "\0"])
    def test_text_that_is_not_python_is_an_error(self, text: str) -> None:
        with pytest.raises((SyntaxError, ValueError)):
            normalised(text)


def seen(program: Callable[..., Any], *cases: tuple[str, str | None], source: str = SOURCE) -> dict[str, Any]:
    output = observe(program, cases, STATEMENT, source)
    assert output is not None
    return dict(json.loads(output))


class TestObserve:
    def test_the_key_covers_the_results_and_passed_the_expected_ones(self) -> None:
        found = seen(lambda x: 2 * x, ("(1,)", "2"), ("([1],)", "[1, 1]"), ("(3,)", "7"), ("(4,)", None))
        assert found == {
            "key": digest("returned 0x2\nreturned list(0x1,0x1)\nreturned 0x6\nreturned 0x8"),
            "basis": "behaviour",
            "passed": 0.75,
        }

    def test_the_key_does_not_depend_on_expected_results(self) -> None:
        keys = {seen(lambda x: 2 * x, ("(1,)", expected))["key"] for expected in ("2", "3", None)}
        assert len(keys) == 1

    def test_an_exception_is_a_result_by_its_class_and_passes_nothing(self) -> None:
        def program(x: int) -> int:
            if x:
                raise ZeroDivisionError(x)
            return 5

        found = seen(program, ("(0,)", None), ("(1,)", None), ("(2,)", "5"))
        assert found["key"] == digest("returned 0x5\nraised ZeroDivisionError\nraised ZeroDivisionError")
        assert found["passed"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, NameError])
    def test_a_program_that_always_raises_has_no_key(self, error: type[BaseException]) -> None:
        def program(x: int) -> int:
            raise error

        found = seen(program, ("(1,)", "None"), ("(2,)", None))
        assert (found["key"], found["passed"]) == (None, 0.0)

    def test_each_example_has_arguments_of_its_own(self) -> None:
        keys = {seen(program, ("([1],)", None), ("([1],)", None))["key"] for program in (list.pop, lambda xs: 1)}
        assert len(keys) == 1

    def test_without_examples_the_key_is_of_the_syntax(self) -> None:
        found = seen(lambda x: 2 * x)
        assert found == {"key": digest(normalised(SOURCE)), "basis": "syntax", "passed": 1.0}

    def test_without_examples_a_function_that_is_not_there_is_an_error(self) -> None:
        def absent() -> None:
            raise NameError

        with pytest.raises(NameError):
            seen(absent)

    @pytest.mark.parametrize(
        "source",
        [STATEMENT, f"{STATEMENT}    # nothing\n", "def f(y):\n    '''Other words.'''\n", f"{STATEMENT}\n\n\n"],
    )
    def test_a_program_that_adds_nothing_to_the_prompt_is_none(self, source: str) -> None:
        assert observe(lambda x: None, [("(1,)", None)], STATEMENT, source) is None

    def test_a_prompt_that_is_no_python_is_no_program_either(self) -> None:
        assert observe(lambda x: 1, [("(1,)", None)], "def f(x):\n", SOURCE) is not None
