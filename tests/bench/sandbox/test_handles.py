"""Objects of a program's own classes: the test holds handles, and none of them can stand in for a plain value."""

import pytest

from bench.sandbox import Program, Verdict, judge

CODE = '''
import enum
from collections import namedtuple


class Vector:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def __mul__(self, factor):
        return Vector(self.x * factor, self.y * factor)

    __rmul__ = __mul__

    def __matmul__(self, other):
        return self.x * other.x + self.y * other.y

    def __abs__(self):
        return (self.x**2 + self.y**2) ** 0.5

    def __eq__(self, other):
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)

    def __lt__(self, other):
        return abs(self) < abs(other)

    def __hash__(self):
        return hash((self.x, self.y))

    def __repr__(self):
        return f"Vector({self.x}, {self.y})"

    def __iter__(self):
        yield from (self.x, self.y)


class EmptyStack(Exception):
    pass


class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise EmptyStack("empty")
        return self.items.pop()

    def __len__(self):
        return len(self.items)

    def __contains__(self, item):
        return item in self.items

    def __getitem__(self, index):
        return self.items[index]

    def __setitem__(self, index, item):
        self.items[index] = item

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.items.append("closed")


class Count:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n


Point = namedtuple("Point", "x y")


class Color(enum.IntEnum):
    RED = 1


class Liar:
    """Equals everything, contains everything, and is near everything."""

    seen = 0

    def __init__(self, *args):
        pass

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __lt__(self, other):
        return True

    __le__ = __gt__ = __ge__ = __contains__ = __lt__

    def __sub__(self, other):
        return 0.0

    __rsub__ = __add__ = __radd__ = __sub__

    def __abs__(self):
        return 0.0

    __neg__ = __abs__

    def __hash__(self):
        return hash(3)

    def __float__(self):
        return 0.0

    def startswith(self, text):
        return True


class LyingInt(int):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __le__(self, other):
        return True

    __ge__ = __lt__ = __gt__ = __le__

    def __sub__(self, other):
        return 0

    def __hash__(self):
        return hash(3)


class Wanderer(int):
    """Shows another number each time."""

    shown = [100, -100] * 50

    def __int__(self):
        return Wanderer.shown.pop()


def liar():
    return Liar()


def lying_int():
    return LyingInt(7)


def wanderer():
    return Wanderer(0)


def moved(point):
    return Point(point.x + 1, point.y)


def order(items):
    items.sort()


def shown(show, text, item):
    return show(text, item)


def items():
    return [Stack()]
'''
CLASSES = ("Color", "Count", "EmptyStack", "Liar", "Point", "Stack", "Vector")


def verdict(test: str, classes: tuple[str, ...] = CLASSES) -> Verdict:
    (found,) = judge([Program(CODE, test, "liar", classes=classes)])
    return found


@pytest.mark.parametrize(
    "test",
    [
        "assert Vector(1, 2).x == 1",
        "v = Vector(1, 2)\nv.x = 5\nassert v.x == 5 and v == Vector(5, 2)\ndel v.x\nassert not hasattr(v, 'x')",
        "assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6) != Vector(4, 7)",
        "assert (Vector(1, 2) * 3).x == 3 and (3 * Vector(1, 2)).y == 6",
        "v = Vector(1, 2)\nv += Vector(1, 1)\nassert (v.x, v.y) == (2, 3)",
        "assert Vector(1, 2) @ Vector(3, 4) == 11 and abs(Vector(3, 4)) == 5.0",
        "assert str(Vector(1, 2)) == repr(Vector(1, 2)) == f'{Vector(1, 2)}' == 'Vector(1, 2)'",
        "x, y = Vector(1, 2)\nassert (x, y) == (1, 2) and list(Vector(3, 4)) == [3, 4]",
        "assert {Vector(1, 2)} == {Vector(1, 2)} and Vector(1, 2) in [Vector(1, 2)]",
        "assert len({Vector(1, 2)} | {Vector(1, 2)}) == 1",
        "assert sorted([Vector(3, 4), Vector(1, 0)]) == [Vector(1, 0), Vector(3, 4)] and Vector(1, 0) < Vector(3, 4)",
        "a = [Vector(3, 4), Vector(1, 0)]\nb = a[0]\norder(a)\nassert a[1] is b and a[0].x == 1",
        "import copy\nv = Vector(1, 2)\nw = copy.deepcopy(v)\nw.x = 5\nassert v.x == 1 and w.x == 5 and w is not v",
        "v = Vector(1, 2)\nassert isinstance(v, Vector) and not isinstance(v, Stack) and not isinstance(3, Vector)",
        "assert issubclass(Vector, Vector) and not issubclass(Vector, Stack)",
        "s = Stack()\ns.push(1)\nassert len(s) == 1 and 1 in s and s[0] == 1 and s.pop() == 1 and not s",
        "s = Stack()\ns.push(1)\ns[0] = 2\nassert s.items == [2]",
        "with Stack() as s:\n    s.push(1)\nassert s.items == [1, 'closed']",
        "try:\n    Stack().pop()\n    assert False\nexcept EmptyStack as error:\n    assert str(error) == 'empty'",
        "assert list(Count(3)) == [2, 1, 0] and next(Count(2)) == 1 and [n for n in Count(1)] == [0]",
        "push = Stack().push\nassert push(1) is None",
        "assert items()[0].items == [] and items()[0].pop is not None",
        "p = Point(1, 2)\nassert p == (1, 2) == p and p.x == p[0] == 1 and moved(p) == Point(2, 2) == (2, 2)",
        "assert Color.RED == 1 and Color(1) is Color.RED and Color.RED.name == 'RED'",
        "assert Color.RED + 1 == 2 and 0 < Color.RED < 2",
        "def check(candidate):\n    assert candidate() != 5",
    ],
)
def test_attributes_calls_and_operators_run_in_the_program(test: str) -> None:
    found = verdict(test)
    assert found.passed, found.detail


@pytest.mark.parametrize("value", ["liar()", "Liar()", "lying_int()"])
@pytest.mark.parametrize(
    "test",
    [
        "assert {} == 3",
        "assert 3 == {}",
        "assert not ({} != 3)",
        "assert [{}] == [3]",
        "assert {{{}}} == {{3}}",
        "assert 3 in [{}]",
        "assert {} in (3, 4)",
        "assert {{3: 'a'}}[{}] == 'a'",
        "assert 3 <= {} <= 3",
        "assert 3 >= {} >= 3",
        "assert abs({} - 3.5) < 1e-6",
        "assert abs(3.5 - {}) < 1e-6",
        "assert -1e-6 < {} - 3.5 < 1e-6",
        "assert sum([{}]) == 3",
        "import math\nassert math.isclose({}, 3.5)",
        "assert max(3, {}) == 3 and min(3, {}) == 3",
        "assert isinstance({}, int)",
    ],
)
def test_a_forged_object_stands_in_for_no_plain_value(test: str, value: str) -> None:
    filled = test.format(*[value] * test.count("{}"))
    assert verdict(filled).status == "failed"


@pytest.mark.parametrize("test", ["3 in liar()", "liar().startswith('abc')", "1 <= wanderer() <= 3"])
def test_a_result_of_a_function_answers_no_question_about_plain_values(test: str) -> None:
    assert verdict(f"assert {test}").status == "failed"


@pytest.mark.parametrize(
    "text",
    ["{0._handle}", "{0.__class__.__init__.__globals__}", "{0.__call__.__globals__}", "{0.__init__.__globals__}"],
)
@pytest.mark.parametrize("item", ["Stack()", "liar"])
def test_a_format_string_of_the_program_does_not_read_the_checker(text: str, item: str) -> None:
    test = f"try:\n    shown(str.format, {text!r}, {item})\nexcept Exception:\n    pass\nelse:\n    assert False"
    found = verdict(test)
    assert found.passed, found.detail


@pytest.mark.parametrize("value", ["liar()", "Liar()", "items()"])
def test_without_classes_that_the_test_names_no_object_is_accepted(value: str) -> None:
    found = verdict(f"assert {value} is not None", classes=())
    assert found.status == "failed"
    assert found.detail.startswith("the result cannot be judged: ")


def test_an_object_that_equals_everything_equals_no_object() -> None:
    assert verdict("assert Liar() == Liar()").status == "failed"
    assert verdict("assert not (Liar() != Stack())").status == "failed"


@pytest.mark.parametrize(
    "answer",
    [
        "isinstance(other, (Odd, int))",
        "isinstance(other, (Odd, tuple))",
        "other is None or isinstance(other, Odd)",
        "not isinstance(other, (int, str, tuple, type(None)))",
        "1",
        "Odd()",
        "Odd.asked.pop()",
        "self.first",
    ],
)
def test_an_odd_equality_is_none(answer: str) -> None:
    code = f"""
class Odd:
    asked = [False, True] * 20
    def __init__(self, first=True): self.first = first
    def __eq__(self, other): return {answer}
def f(first): return Odd(first)
"""
    (found,) = judge([Program(code, "assert f(True) == f(False)", "f", classes=("Odd",))])
    assert (found.status, found.detail[:14]) == ("failed", "AssertionError")


def test_an_equality_by_content_is_one() -> None:
    code = """
class Pair:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
def f(x): return Pair(x)
"""
    (found,) = judge([Program(code, "assert f(1) == f(1) == Pair(1) and f(1) != f(2)", "f", classes=("Pair",))])
    assert found.passed, found.detail


@pytest.mark.parametrize(
    "way",
    [
        "m.same",
        "m.copy()",
        "m()",
        "m.parts[0]",
        "m[0]",
        "next(iter(m))",
        "next(m.each())",
        "m.make()()",
        "m.make().more",
    ],
)
def test_no_number_is_read_from_what_comes_of_a_mixed_object(way: str) -> None:
    code = """
class Num:
    def __init__(self): self.same, self.parts = self, [self]
    def __sub__(self, other): return Num()
    def __abs__(self): return 0.0
    def copy(self): return Num()
    __call__ = copy
    def make(self):
        found = lambda: self.copy()
        found.more = self
        return found
    def __getitem__(self, key): return Num()
    def __iter__(self): return iter([Num()])
    def each(self): yield Num()
"""
    test = f"m = Num() - 3.5\nassert abs({way}) < 1e-6"
    (found,) = judge([Program(code, test, "Num", classes=("Num",))])
    assert (found.status, "operator made of a plain value" in found.detail) == ("failed", True), found.detail


def test_an_exception_that_ends_iterations_fails_the_test() -> None:
    code = "class Done(StopIteration): pass\ndef f(x): raise Done()"
    test = "try:\n    f(0)\nexcept Done:\n    pass\nassert all(map(f, [1, 2]))"
    (found,) = judge([Program(code, test, "f", classes=("Done",))])
    assert found.status == "failed"


def test_a_class_that_the_program_does_not_define_is_named() -> None:
    found = verdict("assert Missing().x == 1", classes=("Missing",))
    assert (found.status, "NameError" in found.detail, "Missing" in found.detail) == ("failed", True, True)


def test_a_name_that_turns_out_to_be_a_function_is_called_as_one() -> None:
    assert verdict("assert moved(Point(1, 2)).x == 2", classes=("moved", "Point")).passed


def test_a_test_reads_64_kib_of_what_a_program_prints() -> None:
    test = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    f(20_000)\n"
    code = "def f(n):\n    for i in range(n):\n        print(i)"
    (found,) = judge([Program(code, test + "assert out.getvalue().endswith('19998\\n19999\\n')\n", "f")])
    assert found.passed, found.detail
    (found,) = judge([Program(code, test + "assert len(out.getvalue()) == 1 << 16\n", "f")])
    assert found.passed, found.detail


def test_only_naming_a_class_calls_nothing_of_the_program() -> None:
    found = verdict("assert Vector is not None")
    assert (found.status, found.detail) == ("failed", "the test called no function of the program")


@pytest.mark.parametrize(
    "reply",
    [
        '{"value": {"object": [0, 1, false]}}',
        '{"value": {"object": [0, "A"]}}',
        '{"value": {"object": ["0", "A", true]}}',
        '{"value": {"object": [true, "A", 0]}}',
        '{"value": {"object": []}}',
    ],
)
def test_an_object_in_another_form_breaks_the_protocol(reply: str) -> None:
    code = f"""
import json, os, struct

class A:
    pass

def forged():
    def read(size):
        data = b""
        while len(data) < size:
            data += os.read(3, size - len(data))
        return data
    def send(message):
        body = json.dumps(message).encode()
        os.write(3, struct.pack(">I", len(body)) + body)
    import sys
    frame = sys._getframe()
    while "message" not in frame.f_locals or "call" not in frame.f_locals["message"]:
        frame = frame.f_back
    send(json.loads({reply!r}) | {{"reply": frame.f_locals["message"]["call"], "printed": "", "changed": []}})
    while True:
        read(1)
"""
    (found,) = judge([Program(code, "assert forged() is not None", "forged", classes=("A",), timeout=5)])
    assert (found.status, found.detail[:20]) == ("failed", "the program broke th")


CONTEXT = """
from contextlib import contextmanager
class Left(Exception): pass
class Context:
    def __init__(self, value=None, kinds=()):
        self.value, self.kinds, self.told = value, kinds, None
    def __enter__(self): return self.value
    def __exit__(self, kind, error, trace):
        self.told = (kind and kind.__name__, error and str(error), isinstance(error, Left))
        return kind in self.kinds
def context(value): return Context(value, (ValueError, ZeroDivisionError))
def swallow(value):
    found = Context(value)
    found.kinds = Everything()
    return found
class Everything:
    def __contains__(self, kind): return True
@contextmanager
def managed(value):
    try: yield value
    except ValueError: pass
"""
CONTEXTS = {
    "hears of the exception": (
        "c = Context()\ntry:\n    with c:\n        raise KeyError('k')\nexcept KeyError:\n    pass\n"
        "assert c.told == ('KeyError', \"'k'\", False)\nwith c:\n    pass\nassert c.told == (None, None, False)"
    ),
    "hears of the program's own exception": (
        "c = Context()\ntry:\n    with c:\n        raise Left('now')\nexcept Left:\n    pass\n"
        "assert c.told == ('Left', 'now', True)"
    ),
    "ends the exception": "with context(1) as one:\n    assert one == 1\n    raise ValueError('x')",
    "ends the exception of an expression": "with context(1):\n    1 / 0\nwith context(1):\n    int('x')",
    "made of a generator": "with managed(5) as five:\n    assert five == 5\nwith managed(5):\n    raise ValueError",
}
"""Tests that right programs pass."""
SWALLOWED = {
    "an assertion": "with swallow(1) as found:\n    assert found == 2",
    "a value that is used": "with swallow('a') as found:\n    assert found + 1 == 2",
    "values that are unpacked": "with swallow(1) as (one, two):\n    assert two == 2",
    "a function of the test": "def show(x): return x.y\nwith swallow(1) as found:\n    assert show(found) == 1",
    "items that are read": "with swallow(1) as found:\n    assert sum(x for x in found) == 1",
    "a call of the program": "with swallow(1) as found:\n    assert context() == 2",
    "an exception of another class": "with context(1):\n    raise KeyError",
    "an exception that must leave": (
        "try:\n    with swallow(1):\n        raise KeyError\nexcept KeyError:\n    pass\nelse:\n    assert False"
    ),
}
"""Tests that a context manager must not pass, although it swallows every exception."""


@pytest.mark.parametrize("test", CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_manager_is_told_how_its_block_ended(test: str) -> None:
    (found,) = judge([Program(CONTEXT, test, "context", classes=("Context", "Left"))])
    assert found.passed, found.detail


@pytest.mark.parametrize("test", SWALLOWED.values(), ids=SWALLOWED)
def test_a_context_manager_hides_no_failure_of_the_test(test: str) -> None:
    (found,) = judge([Program(CONTEXT, test, "context", classes=("Context", "Left"))])
    assert found.status == "failed"


@pytest.mark.parametrize("zero", [".norm()", ".size", "[0]", ".parts()[0]"])
def test_a_difference_from_an_expected_value_is_only_as_strong_as_the_class(zero: str) -> None:
    """This is a limit of the sandbox. The same number as a conversion is refused."""
    code = """
class V:
    size = 0
    def __sub__(self, expected): return self
    def __getitem__(self, n): return 0
    def __float__(self): return 0.0
    def norm(self): return 0
    def parts(self): return [0]
"""
    weak, strong = f"assert (V() - [1, 2]){zero} == 0", "assert float(V() - [1, 2]) == 0"
    weaker, stronger = (judge([Program(code, test, "V", classes=("V",))])[0] for test in (weak, strong))
    assert stronger.status == "failed"
    assert weaker.passed, weaker.detail
