"""Exceptions as messages: the class, the arguments and the place that arrive."""

from typing import Any

import pytest

from bench.sandbox.inside import raised, wire


class NoRoots(ValueError):
    pass


def caught(code: str) -> BaseException:
    with pytest.raises(BaseException) as found:  # noqa: PT011
        exec(compile(code, "<program>", "exec"), {"NoRoots": NoRoots})
    return found.value


def test_an_exception_arrives_with_its_arguments_and_its_place() -> None:
    arrived = raised.rebuilt(raised.message(caught("\nraise KeyError('a', 1)")), None)
    assert (type(arrived), arrived.args, arrived.where) == (KeyError, ("a", 1), "line 2 of the program")  # type: ignore[attr-defined]


def test_a_class_of_the_sender_s_own_arrives_as_the_nearest_built_in_one_or_as_the_receiver_s() -> None:
    message = raised.message(caught("raise NoRoots('none')"))
    assert message["own"] == "NoRoots"
    assert type(raised.rebuilt(message, None)) is ValueError
    assert type(raised.rebuilt(message, NoRoots)) is NoRoots


def test_the_end_of_an_iterator_arrives_as_another_exception() -> None:
    assert type(raised.rebuilt(raised.message(StopIteration(5)), None)) is RuntimeError


@pytest.mark.parametrize("message", [{}, {"raise": 5, "args": [], "where": ""}, {"raise": "ValueError", "args": [5]}])
def test_a_message_of_no_exception_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError, match="not an exception"):
        raised.rebuilt(message, None)


def test_a_name_of_no_exception_arrives_as_a_plain_exception() -> None:
    arrived = raised.rebuilt({"raise": "eval", "args": ["1"], "where": ""}, None)
    assert type(arrived) is Exception
