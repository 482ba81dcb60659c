"""Answers that every scorer must reject: empty, random, hostile and very long texts, and truncated gold answers."""

from __future__ import annotations

import random
import sys

MEGABYTE = 1_000_000
EMPTY = ("", " ", "\n\n\t \r\n")
_REPEATED = ("a", "9", "(", " ", "\0", "\n", "{", "\\frac{", "<answer>", "```python\n", "\\boxed{", "💥", "-", "1,")
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
_RANDOM_TEXTS = 20


def long_texts() -> tuple[str, ...]:
    """Return texts of a million characters, each a repetition of one short string."""
    return tuple((piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE] for piece in _REPEATED)


def noise() -> tuple[str, ...]:
    """Return short texts without an answer, mostly random Unicode. The texts are the same in every call."""
    draws = random.Random("exam")  # the seed; another word would change the texts
    lengths = [draws.randrange(1, 400) for _ in range(_RANDOM_TEXTS)]
    return (*_PLAIN, *("".join(chr(draws.randrange(sys.maxunicode + 1)) for _ in range(n)) for n in lengths))


def absurd() -> tuple[str, ...]:
    """Return noise, texts that may crash or stall a parser, and very long texts."""
    return (*noise(), *_HOSTILE, *long_texts())


def cut_off(gold: str, answer: str | None) -> tuple[str, ...]:
    """Truncate a gold answer: before its final answer, and in the middle of its final answer.

    If the final answer is unknown or does not occur in the text, the text is cut in half. Example:
    `cut_off("so #### 1234", "1234")` gives `("so #### ", "so #### 12")`.

    Args:
        gold: Full text of the gold answer.
        answer: Final answer that the task's extractor finds in it. Its first occurrence is used.
    """
    start = gold.find(answer) if answer else -1
    if answer is None or start < 0:
        return (gold[: len(gold) // 2],)
    return gold[:start], gold[: start + len(answer) // 2]
