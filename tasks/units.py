r"""Units of measure behind the numbers of an answer.

    units_of(r"5\text{ m/s}") == units_of("5 m/s") == {"m/s"}
    units_of("5 hours") == units_of("5 h") == units_of("5h") == {"h"}
    units_of("5") == units_of("5x") == set()

A letter directly behind a number may be a variable as well, so `without_unit` keeps it.
"""

from __future__ import annotations

import re

_SYMBOL = (
    r"(?:(?:[kcmdn]|\\?mu|\u03bc)?(?:m|g|s|l|L|J|N|W|V|A|Hz|Pa|mol)|h|hr|hrs|min|sec|ft|in|yd|mi|lb|lbs|oz|mph|kmh|kph|"
    r"miles?|hours?|minutes?|seconds?|days?|weeks?|years?|feet|met(?:er|re)s?|units?)"
)
_POWER = r"(?:\s*\^\s*\{?\s*-?\d\s*\}?)?"
_UNITS = rf"{_SYMBOL}{_POWER}(?:\s*(?:/|\\cdot|per|\s)\s*{_SYMBOL}{_POWER})*"
_GAP = r"(?:\s|~|\\[,;: ])"
_TEXT = r"\\(?:text|mbox|hbox|textrm|textit|textbf|mathrm|rm)\s*\{"
# 5~\text{m/s} and 5\text{m}: in text, a symbol of a unit is no variable. 5 m/s: two units with a bar are no fraction.
_IN_TEXT = (
    rf"(?<=[\d)}}]){_GAP}*{_TEXT}\s*{_UNITS}\s*\}}(?:\s*(?:/|\\cdot)\s*{_TEXT}\s*{_UNITS}\s*\}})*{_POWER}(?![A-Za-z(])"
)
MEASURES = [
    (_IN_TEXT, " "),
    (rf"(?<=\d){_GAP}+{_SYMBOL}{_POWER}\s*/\s*{_SYMBOL}{_POWER}\s*$", ""),
]
"""Patterns of units, and what replaces each."""

_TEXTS = re.compile(_IN_TEXT)
_BARE = re.compile(rf"(.*\d)({_GAP}*)({_UNITS})\s*\.?\s*", re.DOTALL)
_NUMBER = re.compile(r"\s*[-+]?\s*\d[\d.,/]*\s*")
_RAISED = str.maketrans({"\u00b2": "^2", "\u00b3": "^3"})
_OTHER_NAMES = {
    name: unit
    for unit, names in {
        "h": "hr hrs hour hours",
        "min": "minute minutes",
        "s": "sec second seconds",
        "day": "days",
        "week": "weeks",
        "year": "years",
        "mi": "mile miles",
        "ft": "feet",
        "m": "meter meters metre metres",
        "lb": "lbs",
        "L": "l",
        "mL": "ml",
        "km/h": "kmh kph",
        "mi/h": "mph",
        "": "unit units",
    }.items()
    for name in names.split()
}


def units_of(answer: str) -> set[str]:
    """Return the units of an answer by their symbols; empty if it has none, or none that is known."""
    answer = answer.translate(_RAISED)
    found = [match[0] for match in _TEXTS.finditer(answer)]
    if not found and (match := _BARE.fullmatch(answer)):
        found = [match[3]]
    return {_symbol(each) for each in found} - {""}


def without_unit(answer: str) -> str:
    """Return the number of an answer such as `10 m`; other answers as they are, 10m too."""
    match = _BARE.fullmatch(answer)
    return match[1] if match and match[2] and _NUMBER.fullmatch(match[1]) else answer


def without_any_unit(answer: str) -> str:
    """Return the number of an answer such as `10 m` or `10m`; other answers as they are."""
    match = _BARE.fullmatch(answer)
    return match[1] if match and _NUMBER.fullmatch(match[1]) else answer


def _symbol(text: str) -> str:
    """Return the symbol of a unit, without LaTeX and with one name for it."""
    bare = re.sub(rf"{_TEXT}|[{{}}\s~]|\\[,;: ]", "", text.replace("per", "/").replace("\\cdot", "*"))
    return re.sub(r"[A-Za-z\\\u03bc]+", lambda match: _OTHER_NAMES.get(match[0], match[0]), bare)
