"""Python source: the body of a function, to continue its signature."""

import pytest

from tasks.code import body_of
from tasks.code.python import parsed

PROGRAM = """\
from math import pi
SCALE = 2
def square(x):
\t# of a number
\treturn x * x
@cache
def area(r, scale=SCALE):
  'Return the area.'
  return pi * square(r)
print(area(2))
twice = area(2) * 2
"""


def test_a_body_brings_along_what_is_around_its_function() -> None:
    body = body_of(PROGRAM, "area")
    assert body is not None
    assert [line for line in body.splitlines() if line] == [
        "    from math import pi",
        "    SCALE = 2",
        "    def square(x):",
        "        return x * x",
        "    return pi * square(r)",
    ]


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("def f(x): return x", "    return x"),
        ("def f(x):\n\n\tif x:\n\t\treturn 1\n\treturn 2", "    if x:\n        return 1\n    return 2"),
        ("def f():\n    'Nothing.'", "    pass"),
        ("x = 1\ndef f(x):\n    return x", "    return x"),  # the constant would replace the argument
    ],
)
def test_a_body_continues_its_signature(code: str, body: str) -> None:
    assert body_of(code, "f") == body
    assert parsed(f"def f(x):\n{body}\n") is not None


@pytest.mark.parametrize(
    "code",
    [
        "def f(:",
        "def g(): return 1",
        "from math import *\ndef f(): return pi",
        "class Node: pass\ndef f(): return Node()",
        "n = 0\ndef f():\n    global n\n    n += 1\n    return n",
        "def f(x):\n    f = x + 1\n    return f",
    ],
)
def test_a_program_that_is_more_than_a_body_has_none(code: str) -> None:
    assert body_of(code, "f") is None
