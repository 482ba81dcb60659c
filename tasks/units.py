r"""Units of measure behind the numbers of an answer.

    units_of(r"5\text{ m/s}") == units_of("5 m/s") == {"m/s"}
    units_of("5 hours") == units_of("5 h") == units_of("5h") == {"h"}
    units_of("5 square kilometers") == units_of("5 km^2") == {"km^2"}
    units_of("5") == units_of("5x") == set()

A letter directly behind a number may be a variable as well, so `without_unit` keeps it.
"""

from __future__ import annotations

import re

_METRIC = {
    "m": "meter metre",
    "g": "gram gramme",
    "L": "liter litre",
    "s": "second",
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "V": "volt",
    "A": "ampere amp",
    "Hz": "hertz",
    "Pa": "pascal",
    "mol": "mole",
}
"""Units that take prefixes, by their symbols."""
_PREFIXES = {"": "", "kilo": "k", "centi": "c", "milli": "m", "deci": "d", "nano": "n", "micro": "\u03bc"}
_NAMES = {
    "h": "hr hour",
    "min": "minute",
    "s": "sec",
    "day": "",
    "week": "",
    "month": "",
    "year": "",
    "mi": "mile",
    "ft": "foot feet",
    "in": "inch inche",
    "yd": "yard",
    "lb": "pound",
    "oz": "ounce",
    "gallon": "",
    "quart": "",
    "pint": "",
    "cup": "",
    "ton": "tonne",
    "acre": "",
    "cent": "",
    "dollar": "",
    "euro": "",
    "L": "l",
    "mL": "ml",
    "km/h": "kmh kph",
    "mi/h": "mph",
    "": "unit",
}
_OTHER_NAMES = {name: unit for unit, names in _NAMES.items() for name in names.split()} | {
    prefix + name: sign + unit
    for unit, names in _METRIC.items()
    for name in names.split()
    for prefix, sign in _PREFIXES.items()
}
_WORDS = "|".join(sorted({name for name in [*_OTHER_NAMES, *_NAMES] if name.isalpha()}, key=len, reverse=True))
_SYMBOL = (
    rf"(?:(?:(?:square|sq\.?|cubic|cu\.?)\s+)?(?:(?:[kcmdn]|\\?mu|\u03bc)?(?:{'|'.join(_METRIC)}|l)|(?:{_WORDS})s?))"
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
    text = re.sub(rf"{_TEXT}|[{{}}~]|\\[,;: ]", " ", text.replace("\\cdot", "*"))
    text = re.sub(r"\bper\b", "/", text)
    for word, power in (("square|sq", 2), ("cubic|cu", 3)):
        text = re.sub(rf"\b(?:{word})\b\.?\s+([A-Za-z]+)", rf"\1^{power}", text)
    return re.sub(r"[A-Za-z\\\u03bc]+", lambda match: _name(match[0]), re.sub(r"\s+", "", text))


def _name(word: str) -> str:
    """Return the symbol of one unit by its symbol or name, in the singular or plural."""
    singular = word[:-1] if word.endswith("s") and word[:-1] in {*_OTHER_NAMES, *_NAMES} - {""} else word
    return _OTHER_NAMES.get(word, _OTHER_NAMES.get(singular, singular))
