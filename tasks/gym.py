"""reasoning-gym in a process of its own, in which no text is compiled but what the library wrote itself.

Some of the library's scorers evaluate an answer as Python. Here such an answer is malformed to them.
"""

from __future__ import annotations

import builtins
import difflib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

from tasks.process import Process, Question, Unanswerable, serve
from tasks.splitting import text_id

SEED = 250524760
DRAWN = 1000
DRAWING_SECONDS = 60.0
LONGEST = 10_000  # characters of an answer
PATIENCE = 20  # draws

_PROCESS = Process("tasks.gym", missing="rg tasks need reasoning-gym: pip install 'bench-post-training[tasks]'")


def draw(generator: str) -> list[dict[str, Any]]:
    """Return a thousand draws of a generator with its default settings: `question`, `answer` (or None) and `index`.

    Those whose own answer the scorer does not take are left out.

    Raises:
        Unanswerable: There is no such generator, or its scorer takes none of its answers.
        TooSlow: It takes more than `DRAWING_SECONDS`.
        BenchError: The library is missing.
    """
    rows: list[dict[str, Any]] = _PROCESS.ask({"generator": generator}, seconds=DRAWING_SECONDS)
    return rows


def score(generator: str, index: int, name: str, answer: str) -> float:
    """Return what the generator's scorer gives an answer, 0 if it raises an error.

    Args:
        generator: The library's name.
        index: Of the draw.
        name: `text_id` of its question.
        answer: See `final`.

    Raises:
        Unanswerable: The library draws another question than it did.
        TooSlow: Scoring takes more than `tasks.process.CPU_SECONDS`.
    """
    found: float | None = _PROCESS.ask({"generator": generator, "index": index, "id": name, "answer": answer})
    return found or 0.0


def final(text: str) -> str | None:
    """Return an answer as scorers get it, without white space around it; None for an empty or too long one."""
    answer = text.strip()
    return answer if 0 < len(answer) <= LONGEST else None


# ---- in the process ----


class _NoCode:
    """While a row is scored, no text is compiled that does not stand in it. Modules can be imported."""

    def __init__(self) -> None:
        self._texts: frozenset[str] | None = None
        sys.addaudithook(self._hook)

    @contextmanager
    def but(self, row: Any) -> Iterator[None]:
        self._texts = frozenset(_texts(row))
        builtins.eval = self._eval
        try:
            yield
        finally:
            self._texts, builtins.eval = None, _EVAL

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        compiles = event == "compile" and isinstance(arguments[0], str)
        runs = event == "exec" and arguments[0].co_filename == "<string>"
        if self._texts is not None and (compiles or runs):
            raise PermissionError("a scorer runs no answers")

    def _eval(self, source: Any, *scope: Any) -> Any:
        if self._texts is None or source not in self._texts:
            return _EVAL(source, *scope)  # for the hook to decline
        texts, self._texts = self._texts, None
        try:
            return _EVAL(source, *(scope or ({},)))
        finally:
            self._texts = texts


_EVAL = builtins.eval


@cache
def _no_code() -> _NoCode:
    return _NoCode()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


@cache
def _dataset(generator: str) -> Any:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if generator not in DATASETS:
        near = difflib.get_close_matches(generator, DATASETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(DATASETS))}"
        raise Unanswerable(f"reasoning-gym has no generator {generator!r}; {hint}")
    try:
        return reasoning_gym.create_dataset(generator, size=DRAWN, seed=SEED)
    except Exception as error:
        raise Unanswerable(f"the generator has no default settings that work ({error})") from error


@lru_cache(maxsize=DRAWN)
def _row(generator: str, index: int) -> Any:
    return _dataset(generator)[index]


def _scored(generator: str, index: int, answer: str) -> float:
    row = _row(generator, index)
    with _no_code().but(row):
        found = float(_dataset(generator).score_answer(answer=answer, entry=row))
    return found if 0.0 <= found <= 1.0 else float(found > 1.0)


def _drawn(generator: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index in range(DRAWN):
        if index == PATIENCE and not rows:
            raise Unanswerable(f"its scorer declines {PATIENCE} of the library's own answers if it may not run them")
        row = _row(generator, index)
        known = row["answer"] is not None
        answer = final(str(row["answer"])) if known else None
        if not known or (answer is not None and _scored(generator, index, answer) == 1.0):
            rows.append({"question": row["question"], "answer": answer, "index": index})
    return rows


def _reply(question: Question) -> Any:
    generator = question["generator"]
    if "answer" not in question:
        return _drawn(generator)
    if text_id(_row(generator, question["index"])["question"]) != question["id"]:
        raise Unanswerable("the library draws other examples than it did; install the version that they are from")
    return _scored(generator, question["index"], question["answer"])


if __name__ == "__main__":
    serve(_reply, ["reasoning_gym"])
