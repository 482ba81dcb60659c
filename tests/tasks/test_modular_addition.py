import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.addition import Addition
from tasks.interface import Example
from tasks.modular_addition import ModularAddition

TASK = ModularAddition()
NUMBER = st.integers(0, 99)


def example(a: int, b: int) -> Example:
    return Example(f"{a}+{b}", {"a": a, "b": b})


def test_the_splits_are_those_of_addition() -> None:
    assert TASK.load() == Addition().load()


@given(NUMBER, NUMBER)
def test_only_the_last_two_digits_count(a: int, b: int) -> None:
    pair = example(a, b)
    assert TASK.completion(pair) == f"{a}+{b}="
    assert TASK.score(pair, TASK.gold(pair)).correct
    assert TASK.score(pair, f"{(a + b) % 100:02}").correct
    assert TASK.score(pair, str(a + b)).correct == (a + b < 100)


@pytest.mark.parametrize(
    ("text", "signal"), [("5", 1.0), ("05", 1.0), ("99", 1.0), ("100", 0.0), ("", 0.0), ("x", 0.0)]
)
def test_the_signal_is_the_size_of_the_number(text: str, signal: float) -> None:
    assert TASK.signal(example(60, 45), text) == signal
