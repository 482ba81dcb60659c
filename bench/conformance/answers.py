"""Answers that no task can take for right: nothing, noise, floods, and right ones cut off."""

from __future__ import annotations

import random
import sys

MEGABYTE = 1_000_000
EMPTY = ("", " ", "\n\n\t \r\n")
_FLOODED = ("a", "9", "(", " ", "\0", "\n", "{", "\\frac{", "<answer>", "```python\n", "\\boxed{", "💥", "-", "1,")
_PLAIN = ("I do not know.", "\0", "\ud800")
_HOSTILE = (
    "9**9**9**9",
    "__import__('os').abort()",
    "```python\nimport os\nos.abort()\n```",
    "<answer>__import__('os').abort()</answer>",
    "\\boxed{9^{9^{9^{9}}}}",
    "[" * 5000 + "]" * 5000,
    '{"a":' * 5000,
)
_DRAWN = 20


def floods() -> tuple[str, ...]:
    """Return texts of a million characters, each of one repeated piece."""
    return tuple((piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE] for piece in _FLOODED)


def noise() -> tuple[str, ...]:
    """Return short texts that answer nothing, most of them from all of Unicode; the same ones every time."""
    draws = random.Random("exam")
    lengths = [draws.randrange(1, 400) for _ in range(_DRAWN)]
    return (*_PLAIN, *("".join(chr(draws.randrange(sys.maxunicode + 1)) for _ in range(n)) for n in lengths))


def absurd() -> tuple[str, ...]:
    """Return noise, texts that break or outlast what reads them, and floods."""
    return (*noise(), *_HOSTILE, *floods())


def cut_off(gold: str, answer: str | None) -> tuple[str, ...]:
    """Return a right answer up to its final answer, and up to the middle of that; or up to its own middle.

    Args:
        gold: The whole text.
        answer: What the task's extractor takes for the final answer in it. Where it stands first counts.
    """
    start = gold.find(answer) if answer else -1
    if answer is None or start < 0:
        return (gold[: len(gold) // 2],)
    return gold[:start], gold[: start + len(answer) // 2]
