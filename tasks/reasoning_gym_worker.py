"""reasoning-gym in a worker process that never runs an answer as code.

Some of the library's scorers evaluate an answer as Python. In this process they may compile only texts that the library
generated itself; for an answer the compilation fails, as if it were malformed.
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
LONGEST = 10_000  # maximum characters of an answer
PATIENCE = 20  # draws after which a generator without a single usable example is refused

_PROCESS = Process(
    "tasks.reasoning_gym_worker", missing="rg tasks need reasoning-gym: pip install 'bench-post-training[tasks]'"
)


def draw(generator: str) -> list[dict[str, Any]]:
    """Return 1000 examples of a generator, drawn with its default settings and a fixed seed.

        {"question": "Your task is to count how many legs ...", "answer": "414", "index": 655}

    `answer` is None if the library knows none. Examples whose own answer the scorer rejects are left out.

    Raises:
        Unanswerable: If there is no such generator, or its scorer rejects all of its answers.
        TooSlow: If drawing takes more than `DRAWING_SECONDS`.
        BenchError: If the library is not installed.
    """
    rows: list[dict[str, Any]] = _PROCESS.ask({"generator": generator}, seconds=DRAWING_SECONDS)
    return rows


def score(generator: str, index: int, name: str, answer: str) -> float:
    """Return the generator's score of an answer, in [0, 1]; 0 if the scorer raises an error.

    Args:
        generator: Name of the generator in the library.
        index: Index of the example.
        name: `text_id` of its question.
        answer: Answer as returned by `final`.

    Raises:
        Unanswerable: If the installed version of the library draws another question at this index.
        TooSlow: If scoring takes more than `tasks.process.CPU_SECONDS`.
    """
    found: float | None = _PROCESS.ask({"generator": generator, "index": index, "id": name, "answer": answer})
    return found or 0.0


def final(text: str) -> str | None:
    """Return an answer without surrounding white space, as the scorers get it; None if it is empty or too long."""
    answer = text.strip()
    return answer if 0 < len(answer) <= LONGEST else None


# ---- in the worker process ----


class _CodeGuard:
    """Prevents the compilation of any text, except those in the scored row. Modules can still be imported."""

    def __init__(self) -> None:
        self._texts: frozenset[str] | None = None
        sys.addaudithook(self._hook)

    @contextmanager
    def allowing(self, row: Any) -> Iterator[None]:
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
            raise PermissionError("a scorer must not run answers as code")

    def _eval(self, source: Any, *scope: Any) -> Any:
        if self._texts is None or source not in self._texts:
            return _EVAL(source, *scope)  # the audit hook rejects it
        texts, self._texts = self._texts, None
        try:
            return _EVAL(source, *(scope or ({},)))
        finally:
            self._texts = texts


_EVAL = builtins.eval


@cache
def _code_guard() -> _CodeGuard:
    return _CodeGuard()


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
    with _code_guard().allowing(row):
        found = float(_dataset(generator).score_answer(answer=answer, entry=row))
    return found if 0.0 <= found <= 1.0 else float(found > 1.0)


def _drawn(generator: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index in range(DRAWN):
        if index == PATIENCE and not rows:
            raise Unanswerable(
                f"its scorer rejects {PATIENCE} of the library's own answers when it may not run them as code"
            )
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
        raise Unanswerable("the library now draws other examples; install the version that the run began with")
    return _scored(generator, question["index"], question["answer"])


if __name__ == "__main__":
    serve(_reply, ["reasoning_gym"])
