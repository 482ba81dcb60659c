r"""Values of mathematical answers, as keys that are equal for answers of equal value.

    read("1/2").key == read("0.5").key == read(r"\frac12").key == "1/2"
    read("3, -3").key == read(r"\{-3, 3\}").key == "list -3 | 3"
    read("x < 3").key == read(r"(-\infty, 3)").key == "(-oo, 3)"

An answer is parsed into lists, points, intervals, unions, matrices, equations and words. Their atoms are expressions,
which `tasks.algebra` evaluates. `tasks.maths` has the conventions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from tasks.algebra import number_key, value_key
from tasks.brackets import bracketed, depth_of, letters, split
from tasks.numbers import exact
from tasks.spelling import tidy

LONGEST = 1000  # maximum characters of an answer
DEEPEST = 20  # maximum depth of nested brackets
COMMAS = (",", ";", r"\and ", r"\or ")
_WORDS = re.compile(r"(?=[^A-Za-z]*[A-Za-z]{3})[A-Za-z][A-Za-z' .-]*")
_FUNCTIONS = re.compile(r"\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan|sqrt|max|min|lcm|gcd)\b")
_BASE = re.compile(r"(\d+)_\{?(\d+)\}?")
_THOUSANDS = re.compile(r"(?<![\d,.])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_UNIT = re.compile(
    r"(.*[\d)}])\s*(?:\s|(?<=[\d)}])(?=[a-z]{2}))((?:[A-Za-z]{2,}|per)[A-Za-z .\/]*)(?:\^\s*\{?\d\}?)?", re.DOTALL
)
_NAME = re.compile(r"(?:\\[A-Za-z]+\s*)?[A-Za-z]?\w{0,2}'?(?:_\s*(?:\{[^{}]*\}|\w))?")
_CALL = re.compile(r"[A-Za-z](?:_\s*(?:\{[^{}]*\}|\w))?\s*\([A-Za-z](?:,\s*[A-Za-z])*\)")
_TWO_NUMBERS = re.compile(r"(?<![\w.^])\d[\d.]*\s+\d")
_DOUBLE_FACTORIAL = re.compile(r"(?<![\w.])(\d{1,3})!!(?!!)")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?:\s*([ap])\.?\s?m\.?)?", re.IGNORECASE)
_DECIMALS = re.compile(r"\d\.(\d+)\s*\Z")
_ARITHMETIC = re.compile(r"\\(?:[dtc]?frac|sqrt|cdot|times|div|left|right|pi|displaystyle)(?![A-Za-z])")
_MEASURED = re.compile(r"[A-Za-z%\u00b0$]")
_ORDER = {"\\le ": ("[", "]"), "<": ("(", ")")}
_REALS = "expression Reals"  # as tasks.algebra reads \mathbb{R}


@dataclass(frozen=True)
class ParsedAnswer:
    """Parsed answer.

    Attributes:
        key: Key of the whole answer; equal for answers of equal value.
        value: Key of the value: of the right side for an equation, otherwise the same as `key`.
        equation: Key of the equation up to a factor; None if the answer is not an equation.
        latex: LaTeX of an expression without a numeric value, for `tasks.algebra.verified`; None for other answers.
    """

    key: str
    value: str
    equation: str | None = None
    latex: str | None = None


@lru_cache(maxsize=1 << 16)
def read(answer: str) -> ParsedAnswer | None:
    """Parse an answer; None if it is empty or longer than `LONGEST`.

    Raises:
        tasks.algebra.TooSlow: If an expression cannot be evaluated in time.
    """
    if len(answer) > LONGEST:
        return None
    text = tidy(answer)
    sides = split(text, "=")
    if len(sides) > 1 and all(sides) and len(split(text, *COMMAS)) == 1:
        false = None if _MEASURED.search(_ARITHMETIC.sub("", answer)) else _false(sides)
        return ParsedAnswer(false, false) if false else _equation(sides)
    key = _value(text, 0)
    if key is None:
        return None
    return ParsedAnswer(key, key, latex=text if key.startswith("expression") else None)


@lru_cache(maxsize=1 << 14)
def accepted_values(gold: str) -> frozenset[str]:
    """Return the keys of the values that a gold answer stands for: more than one where its writing is ambiguous.

    An equation with a name on one side has a value too, that of its other side.
    """
    parsed = read(gold)
    if parsed is None:
        return frozenset()
    text = tidy(gold)
    sides = [side.strip() for side in split(text, "=")]
    named = parsed.equation is None or _NAME.fullmatch(sides[0]) or _is_variable(sides[-1])
    values = {parsed.value} if named else set()
    if time := _TIME.fullmatch(text):
        # If the question states the half of the day, the time alone is a correct answer, and with it in any case.
        values |= {_time(time[1], time[2], half) for half in ([time[3], ""] if time[3] else ["a", "p", ""])}
    if _without_thousands(text) != text and (several := _value(text.replace(",", ", "), 0)):
        values.add(several)
    return frozenset(values)


def in_base(answer: str) -> tuple[str, int] | None:
    """Return the digits and the base of a number such as `52_8`; None for other answers."""
    match = _BASE.fullmatch(tidy(answer))
    return (match[1], int(match[2])) if match else None


def _equation(sides: list[str]) -> ParsedAnswer | None:
    left, right = sides[0].strip(), sides[-1].strip()
    if (_is_constant(left) and not _is_constant(right)) or (_is_variable(right) and not _NAME.fullmatch(left)):
        left, right = right, left  # 5 = x
    value = _value(right, 0)
    if value is None:
        return None
    constant = _is_constant(right)
    if _CALL.fullmatch(left) or (_NAME.fullmatch(left) and constant) or not re.search(r"[A-Za-z]", left):
        return ParsedAnswer(value, value)
    equation = None
    if max(depth_of(left), depth_of(right)) < DEEPEST:
        found = value_key(f"({left})-({right})", projective=True)
        equation = found and f"equation {found}"
    if equation is None:
        return ParsedAnswer(value, value)
    return ParsedAnswer(f"{equation} = {value}", value, equation)


def _is_constant(text: str) -> bool:
    """Return whether an expression has no variable. The letters e and i stand for numbers."""
    return not re.search(r"[A-Za-df-hj-z]", re.sub(r"\\[A-Za-z]+", "", text))


def _is_variable(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and not _is_constant(text)


def _false(sides: list[str]) -> str | None:
    """Return a key of its own for an equation of numbers that differ, such as 4 = 5; None for any other equation.

    A side with a decimal point may be rounded: 10/3 = 3.33 is not false.
    """
    numbers = [(side, number) for side in sides if (number := _number(_value(side, 0))) is not None]
    for (one, a), (other, b) in pairwise(numbers):
        digits = [len(match[1]) for match in map(_DECIMALS.search, (one, other)) if match]
        if abs(a - b) > (Fraction(1, 10 ** min(digits)) if digits else 0):
            return f"false {a} = {b}"
    return None


def _number(key: str | None) -> Fraction | None:
    """Return the number that a key stands for, or None."""
    try:
        return Fraction(key or "")
    except (ValueError, ZeroDivisionError):
        return None


def _value(text: str, depth: int) -> str | None:
    """Return the key of an answer other than an equation; None for an empty one."""
    text = text.strip().rstrip(".,;:").strip()
    if not text:
        return None
    if depth > DEEPEST:
        return f"text {letters(text)}"
    if depth == 0:
        text = _without_thousands(text)
    for find in (_several, _bracket, _matrix, _inequality, _atom):
        found = find(text, depth + 1)
        if found is not None:
            return found
    return None


def _without_thousands(text: str) -> str:
    """Remove thousands separators outside brackets. Inside brackets, commas separate items."""
    level = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal level
        if match[1] is None:
            level += 1 if match[0] in "([{" else -1
            return match[0]
        return match[0] if level > 0 else match[1].replace(",", "")

    return re.sub(rf"{_THOUSANDS.pattern}|[()\[\]{{}}]", replace, text)


def _several(text: str, depth: int) -> str | None:
    """Return the key of a list or union, with sorted parts; None for other answers."""
    if len(parts := split(text, *COMMAS)) > 1:
        return _conditions(parts, depth, either="\\or " in text) or _list(parts, depth)
    if text.startswith("\\{") and text.endswith("\\}") and text.find("\\}") == len(text) - 2:
        return _list(split(text[2:-2], *COMMAS), depth)
    if len(parts := split(text, "\\cup ")) > 1:
        return _union(_value(part, depth) or "" for part in parts)
    if "\\pm" in text or "\\mp" in text:
        upper = text.replace("\\pm", "+").replace("\\mp", "-")
        lower = text.replace("\\pm", "-").replace("\\mp", "+")
        return _list([upper, lower], depth)
    return None


def _union(keys: Iterable[str]) -> str:
    return f"union {sorted(keys)}"


def _conditions(parts: list[str], depth: int, *, either: bool) -> str | None:
    """Return the key of inequalities in one variable; None for other parts.

    `x < 0 or x > 1` and `x < 0, x > 1` are a union. `x > 1 and x < 3` is (1, 3).

    Args:
        parts: The inequalities.
        depth: Depth of nested brackets.
        either: Whether "or" joins them. Otherwise both hold where they can.
    """
    letters = [set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", part))) for part in parts]
    if not letters[0] or any(each != letters[0] for each in letters):
        return None
    keys = [_inequality(part.strip(), depth) for part in parts]
    if None in keys:
        return None
    found = [key for key in keys if key]
    above, below = ([key for key in found if rule(key)] for rule in (_is_above, _is_below))
    if len(above) == len(below) == 1 and len(found) == 2 and not either:
        low, high = above[0][1:].removesuffix(", oo)"), below[0].removeprefix("(-oo, ")[:-1]
        a, b = _number(low), _number(high)
        if a is not None and b is not None and a < b:
            return f"{above[0][0]}{low}, {high}{below[0][-1]}"
    return _union(found)


def _is_above(key: str) -> bool:
    return key.endswith(", oo)")


def _is_below(key: str) -> bool:
    return key.startswith("(-oo, ")


def _list(parts: list[str], depth: int) -> str | None:
    sides = [split(part, "=") for part in parts]
    if len({side[0].strip() for side in sides if len(side) == 2}) == 1 or not all(len(side) == 2 for side in sides):
        # All parts have the same name, or some have none. The question already says what the name stands for.
        parts = [side[-1] for side in sides]
    keys: list[str] = []
    for part in parts:
        named = split(part, "=")
        key = _value(named[-1], depth)
        if key is None:
            continue
        if len(named) > 1:
            key = f"{letters(named[0])} = {key}"
        keys += key[5:].split(" | ") if key.startswith("list ") else [key]
    if len(keys) < 2:
        return keys[0] if keys else None
    return "list " + " | ".join(sorted(keys))


def _bracket(text: str, depth: int) -> str | None:
    r"""Return the key of a point, an interval or a parenthesised answer; `x \in (1, 2)` counts as (1, 2)."""
    if match := re.fullmatch(r"[A-Za-z]\s*\\in(?![A-Za-z])(.*)", text, re.DOTALL):
        return _value(match[1], depth)
    if not bracketed(text):
        return None
    parts = split(text[1:-1], ",", ";")
    if len(parts) == 1 or text[0] == "{":
        return _value(text[1:-1], depth) if text[0] + text[-1] in ("()", "[]", "{}") else None
    keys = [_value(part, depth) or "" for part in parts]
    key = f"{text[0]}{', '.join(keys)}{text[-1]}"
    return _REALS if key == "(-oo, oo)" else key


def _matrix(text: str, depth: int) -> str | None:
    match = re.fullmatch(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", text, re.DOTALL)
    if match is None:
        return None
    rows = [row.split("&") for row in re.split(r"\\\\", match[2]) if row.strip()]
    return f"matrix {[[_value(cell, depth) or '' for cell in row] for row in rows]}"


def _inequality(text: str, depth: int) -> str | None:
    """Return the key of the interval that an inequality such as `x < 3` stands for; None for other answers."""
    turned = split(text, "\\ge ", ">")
    if len(turned) > 1 and len(split(text, "\\le ", "<")) == 1:
        order = re.findall(r"\\ge |>", text)
        swap = {"\\ge ": "\\le ", ">": "<"}
        text = "".join(part + (swap[order[::-1][i]] if i < len(order) else "") for i, part in enumerate(turned[::-1]))
    parts, signs = split(text, "\\le ", "<"), re.findall(r"\\le |<", text)
    names = [bool(_NAME.fullmatch(part.strip())) and not re.fullmatch(r"\s*[\d\\].*", part) for part in parts]
    if names == [True, False]:
        return f"(-oo, {_value(parts[1], depth)}{_ORDER[signs[0]][1]}"
    if names == [False, True]:
        return f"{_ORDER[signs[0]][0]}{_value(parts[0], depth)}, oo)"
    if names == [False, True, False]:
        low, high = _value(parts[0], depth), _value(parts[2], depth)
        return f"{_ORDER[signs[0]][0]}{low}, {high}{_ORDER[signs[1]][1]}"
    return None


def _atom(text: str, depth: int) -> str:
    """Return the key of a number, a number with a unit, words, or an expression; otherwise a key of the text itself."""
    if (number := exact(text)) is not None:
        return number_key(number, exact=True)
    if len(parts := split(text, ":")) > 1 and (found := _ratio(text, parts)):
        return found
    if _BASE.fullmatch(text):
        return f"base {text.replace('{', '').replace('}', '')}"
    if _WORDS.fullmatch(text) and not _FUNCTIONS.search(text):
        return f"words {letters(text)}"
    if (match := _UNIT.fullmatch(text)) and not _FUNCTIONS.search(match[2]):
        return _value(match[1], depth) or ""
    if _TWO_NUMBERS.search(text):
        return f"text {' '.join(text.split())}"
    text = _DOUBLE_FACTORIAL.sub(lambda match: str(math.prod(range(int(match[1]), 0, -2))), text)
    found = value_key(text) if depth_of(text) <= DEEPEST else None
    return found if found is not None else f"text {letters(text)}"


def _ratio(text: str, parts: list[str]) -> str | None:
    """Return the key of a time such as 12:00 or 7:30 pm, or of a ratio of three or more numbers; None for others.

    A ratio of two numbers is their quotient.
    """
    time = _TIME.fullmatch(text)
    if time and (time[3] or time[2].startswith("0")):
        return _time(time[1], time[2], time[3] or "")
    numbers = [exact(part) for part in parts]
    if len(parts) == 2 or None in numbers or not numbers[0]:
        return None
    return "ratio " + ":".join(str(number / numbers[0]) for number in numbers if number is not None)


def _time(hours: str, minutes: str, half: str) -> str:
    """Return the key of a time, in the half of the day `a` or `p`, or in an unknown one."""
    if not half and not minutes.startswith("0"):
        return number_key(Fraction(int(hours), int(minutes)))  # may be a ratio as well
    return f"time {int(hours)}:{minutes} {half.lower()}".rstrip()
