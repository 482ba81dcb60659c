"""Numbers as people write them, and counts in words.

65536  65_536  65,536  1e5  64k  2M      whole numbers
1 item, 2 items, 65,536 items            counts
"""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"(-?)(\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(\.\d+)?(?:[eE]\+?(\d{1,2}))? ?([a-zA-Z]*)", re.ASCII)
_LONGEST = 100
"""Number of characters of the longest number. Python refuses to read one of thousands of digits."""
_MULTIPLES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6}


def measure(text: str) -> tuple[Fraction, str] | None:
    """Split a text into a number and its unit: `65,536` is (65536, ""), `64k` (64000, ""), `1.5 h` (3/2, "h").

    Returns:
        Number and unit; None if the text is not of that form. `k` is 1,000, and `M` is 1,000,000.
    """
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    sign, whole, fraction, power, unit = found.groups("")
    amount = Fraction(sign + whole.replace(",", "").replace("_", "") + fraction) * 10 ** int(power or 0)
    return (amount * _MULTIPLES[unit], "") if unit in _MULTIPLES else (amount, unit)


def number(text: str) -> int | float | None:
    """Return the number that a text gives, an integer if it is whole; None if it gives none.

    Examples: `64k` is 64000, `1e5` is 100000, `0.5` is 0.5.
    """
    found = measure(text)
    if found is None or found[1]:
        return None
    return int(found[0]) if found[0].denominator == 1 else float(found[0])


def whole_number(text: str) -> int | None:
    """Return the whole number that a text gives, or None."""
    found = number(text)
    return found if isinstance(found, int) else None


def counted(n: int, singular: str, plural: str | None = None) -> str:
    """Return a number of things in words: `1 fix`, `2 fixes`.

    Args:
        n: The number.
        singular: Name of one.
        plural: Name of several. Default: the singular with an s.
    """
    return f"{n} {singular if n == 1 else plural or singular + 's'}"
