"""Strict JSON, one value a line: the one reader and the one writer of journals, samples and records.

A line ends at `\\n` alone, unlike in `str.splitlines`: models write other separators. Text is UTF-8 in reading, and
ASCII in writing, so that no program sees a separator or a control inside a line. A value that strict JSON lacks (NaN,
an infinity, a name given twice) is an error. All values return as they were, half a surrogate pair included:

    {"id":"17","text":"one\\u2028two"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

LARGEST = 10**300
"""Largest integer that is read: reports compute with floats, which end soon after it."""


class NotStrict(ValueError):
    """Error for bytes that are not one value of strict JSON in UTF-8. The message is the reason alone."""


def encode(value: Any) -> bytes:
    """Return a value as one line of JSON, without the newline.

    Raises:
        ValueError: If a number is NaN or infinite.
        TypeError: If JSON has no such value.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def decode(data: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        NotStrict: If the bytes are not one value of strict JSON in UTF-8.
    """
    try:
        return _DECODER.decode(data.decode())
    except NotStrict:
        raise
    except UnicodeDecodeError as error:
        raise NotStrict(f"byte {error.start + 1} is not UTF-8") from error
    except RecursionError as error:
        raise NotStrict("nested too deeply") from error
    except ValueError as error:  # includes integers of more digits than Python reads
        raise NotStrict(f"not JSON: {error}") from error


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line that is not empty, without its newline."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            yield number, line


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotStrict(f"the name {json.dumps(twice)} is given twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotStrict(f"{text} is too large for a number")
    return number


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) > LARGEST:
        raise NotStrict(f"{text[:20]}... of {len(text)} digits is too large for a number")
    return number


def _refused(text: str) -> Any:
    raise NotStrict(f"{text} is not JSON; expected a finite number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_named_once, parse_float=_finite, parse_int=_whole, parse_constant=_refused
)
