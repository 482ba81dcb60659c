"""Decorators for the methods of a task that judge answers: they see the answers of replies, without the thoughts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tasks.thoughts import answer_of

Method = Callable[..., Any]


def for_one(otherwise: Any) -> Callable[[Method], Method]:
    """Return a decorator for a method that takes an example and a reply.

    Args:
        otherwise: Result for a reply without an answer.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def divided(self: Any, example: Any, text: str) -> Any:
            answer = answer_of(text)
            return otherwise if answer is None else method(self, example, answer)

        return _marked(divided)

    return decorate


def for_many(otherwise: Any) -> Callable[[Method], Method]:
    """Return a decorator for a method that takes examples and their replies, and returns a list.

    Args:
        otherwise: Item of the list for a reply without an answer.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def divided(self: Any, examples: Sequence[Any], texts: Sequence[str]) -> list[Any]:
            answers = [answer_of(text) for text in texts]
            if None not in answers:
                return list(method(self, examples, answers))
            pairs = [pair for pair in zip(examples, answers, strict=True) if pair[1] is not None]
            found = iter(method(self, *map(list, zip(*pairs, strict=True))) if pairs else [])
            return [otherwise if answer is None else next(found) for answer in answers]

        return _marked(divided)

    return decorate


def for_measures(method: Method) -> Method:
    """Decorate a method that takes examples, replies and scores. A reply without an answer becomes an empty one."""

    @functools.wraps(method)
    def divided(self: Any, examples: Sequence[Any], texts: Sequence[str], scores: Sequence[Any]) -> Any:
        return method(self, examples, [answer_of(text) or "" for text in texts], scores)

    return _marked(divided)


def is_divided(method: Method) -> bool:
    """Return whether a method has one of these decorators."""
    return hasattr(method, "sees_answers")


def _marked(method: Method) -> Method:
    method.sees_answers = True  # type: ignore[attr-defined]
    return method
