"""Reference answers of rows: one short answer, not a solution that ends with it."""

from __future__ import annotations

from typing import Any

from bench.errors import UsageError, shown
from tasks.maths import after_hashes, announced, boxed
from tasks.sources import as_text


def sole(value: Any, field: str = "answer") -> str:
    r"""Return a reference answer as text. A number becomes its digits, a list of answers one text with commas.

    Args:
        value: Field of a row, such as `"5\\sqrt{2}"`, `204` or `["1", "2"]`.
        field: Name of the field, for messages.

    Raises:
        UsageError: If the value is empty, or a whole solution: a text with a box, with `####`, or with "the answer is".
            No reply equals a whole solution. The message names field, value and remedy.
    """
    parts = value if isinstance(value, list) else [value]
    answers = [as_text(part) for part in parts]
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise UsageError(f"field {field!r} is {shown(value)}; expected an answer as text or number, not an empty one")
    answer = ",".join(map(str, answers))
    inner = boxed(answer) or after_hashes(answer) or announced(answer)
    if inner is not None or "####" in answer:
        remedy = (
            f"expected the answer alone, which seems to be {shown(inner)}" if inner else "expected the answer alone"
        )
        raise UsageError(f"field {field!r} is {shown(answer)}, a whole solution; {remedy}")
    return answer
