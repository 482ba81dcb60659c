r"""Mathematical answers: extract them from a text and compare them with the gold answer.

An answer is parsed into lists, points, intervals, unions, matrices, equations and words. Their atoms are expressions,
which `tasks.algebra` evaluates. The result is a key, and answers of equal value have equal keys:

    read("1/2").key == read("0.5").key == read(r"\frac12").key == "1/2"
    read("3, -3").key == read(r"\{-3, 3\}").key == "list -3 | 3"
    read("x < 3").key == read(r"(-\infty, 3)").key == "(-oo, 3)"

Whether an answer is correct depends on its key alone, so answers that share a vote are correct or wrong together.
Conventions:

- A list, with or without braces, has no order; a point or an interval has one. (1, 2) stands for a point or an open
  interval, depending on the question; it differs from [1, 2].
- Numbers are exact: 0.333 is not 1/3. Per cent signs, degrees, units and currencies are ignored: 50\% is 50.
- `x = 5` means 5. So does `a + b = 5`, unless the gold answer is an equation too. Two equations are equal if they are
  multiples of each other.
- Letters are variables, and `i` is the imaginary unit. Three or more letters in a row are a word; case is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tasks.algebra import TooSlow, number_key, value_key, verified
from tasks.interface import Score, Vote

LONGEST = 1000  # maximum characters of an answer
DEEPEST = 20  # maximum depth of nested brackets
TAIL = 20_000  # characters at the end of a text that are searched for the answer
BOXES = 20  # maximum number of boxes tried, from the last one back

_LAST_NUMBER = re.compile(
    r"(?<![\d.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)(?:\s?/\s?\d+(?![\d/]))?"
)
_SAYS = re.compile(
    r"answer(?:\s+to\s+[^.\n]{0,80})?\s*(?:\*\*)?\s*(?:is|are|:|=)+\s*(?:\*\*)?[:\s]*(?=\S)", re.IGNORECASE
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_HASHES = re.compile(r"^[ \t]*####[ \t]*([^\n]*)", re.MULTILINE)


# ---- extracting ----


def boxed(text: str) -> str | None:
    r"""Return the content of the last complete `\boxed{...}`; None if there is none."""
    text = text[-TAIL:]
    for start in [match.start() for match in _BOX.finditer(text)][: -BOXES - 1 : -1]:
        inner = _braced(text, text.index("{", start))
        if inner is not None:
            return inner.strip() or None
    return None


def after_hashes(text: str) -> str | None:
    """Return the rest of the last line that starts with `####`; None if there is none."""
    found = _HASHES.findall(text[-TAIL:])
    return (found[-1].strip() or None) if found else None


def announced(text: str) -> str | None:
    """Return the text after the last "the answer is", up to the end of the sentence; None if there is none."""
    text = text[-TAIL:]
    end = max((match.end() for match in _SAYS.finditer(text)), default=None)
    if end is None:
        return None
    line = text[end : end + LONGEST].partition("\n")[0]
    sentence = re.split(r"(?<=[^.\s])\.(?=\s|\*|$)|\*\*", line)[0]
    maths = re.fullmatch(r"\s*(?:\$+|\\\(|\\\[)(.+?)(?:\$+|\\\)|\\\])[^$\\]*", sentence)
    return (maths[1] if maths else sentence).strip(" *") or None


def last_number(text: str) -> str | None:
    """Return the last number in a text, such as `1,024` or `-3/4`; None if there is none."""
    found = _LAST_NUMBER.findall(text[-TAIL:])
    return found[-1] if found else None


def _braced(text: str, brace: int) -> str | None:
    """Return the text between this brace and its closing one; None if it is not closed."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, brace, brace + LONGEST * 4):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[brace + 1 : match.start()]
    return None


# ---- comparing ----


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
    text = _tidy(answer)
    sides = _split(text, "=")
    if len(sides) > 1 and all(sides) and len(_split(text, *COMMAS)) == 1:
        return _equation(sides)
    key = _value(text, 0)
    if key is None:
        return None
    return ParsedAnswer(key, key, latex=text if key.startswith("expression") else None)


def equivalent(gold: str, answer: str) -> bool:
    """Return whether an answer equals the gold answer by the conventions of this module.

    Raises:
        tasks.algebra.TooSlow: If the comparison takes too long.
    """
    given = read(answer)
    if given is None:
        return False
    values, equation, latex = _gold(gold)
    if given.equation is not None and given.equation == equation:
        return True
    if given.value in values:
        return True
    return latex is not None and given.latex is not None and verified(latex, given.latex)


def score_answer(gold: str, answer: str | None) -> Score:
    """Score an extracted answer: reward 1 if it equals the gold answer, else 0. There is no partial credit."""
    if answer is None:
        return Score(0.0, False, status="no_answer", detail="no answer found")
    shown = answer if len(answer) <= 200 else f"{answer[:200]}..."
    try:
        correct = equivalent(gold, answer)
    except TooSlow as error:
        return Score(0.0, False, shown, status="timeout", detail=f"reading it took {error}")
    return Score(float(correct), correct, shown, detail="" if correct else f"gold: {gold}")


def strict_share(strictly: Sequence[Score], scores: Sequence[Score]) -> dict[str, float]:
    """Return the accuracy of the strict and of the flexible extractor; empty if there are no answers."""
    columns = {"strict": strictly, "flexible": scores}
    return {name: sum(s.correct for s in column) / len(column) for name, column in columns.items() if column}


def vote(answer: str | None) -> Vote | None:
    """Return the key of an extracted answer as its vote; None if there is no answer or parsing takes too long."""
    try:
        parsed = read(answer) if answer is not None else None
    except TooSlow:
        return None
    return Vote(parsed.key) if parsed else None


@lru_cache(maxsize=1 << 14)
def _gold(gold: str) -> tuple[frozenset[str], str | None, str | None]:
    """Return the accepted values, the equation and the expression of a gold answer."""
    parsed = read(gold)
    if parsed is None:
        return frozenset(), None, None
    text = _tidy(gold)
    named = parsed.equation is None or _NAME.fullmatch(_split(text, "=")[0].strip())
    values = {parsed.value} if named else set()
    if base := _BASE.fullmatch(text.strip()):
        # If the question states the base, the digits alone are a correct answer.
        values.add(number_key(Fraction(base[1])))
    if _without_thousands(text) != text and (several := _value(text.replace(",", ", "), 0)):
        values.add(several)
    return frozenset(values), parsed.equation, parsed.latex


COMMAS = (",", ";", r"\and ")
_WORDS = re.compile(r"(?=[^A-Za-z]*[A-Za-z]{3})[A-Za-z][A-Za-z' .-]*")
_FUNCTIONS = re.compile(r"\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan|sqrt|max|min|lcm|gcd)\b")
_PLAIN = re.compile(r"([-+]?)\s*(\d*\.?\d+|\d+\.)(?:\s*/\s*(\d+))?")
_FRACTION = re.compile(r"([-+]?)\s*(\d*)\s*\\frac\{\s*([-+]?)(\d+)\s*\}\{\s*(\d+)\s*\}")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_PERIODIC = re.compile(r"([-+]?)(\d*)\.(\d*)\\overline\{(\d+)\}")
_BASE = re.compile(r"(\d+)_\{?(\d+)\}?")
_THOUSANDS = re.compile(r"(?<![\d,.])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_UNIT = re.compile(
    r"(.*[\d)}])\s*(?:\s|(?<=[\d)}])(?=[a-z]{2}))((?:[A-Za-z]{2,}|per)[A-Za-z .\/]*)(?:\^\s*\{?\d\}?)?", re.DOTALL
)
_NAME = re.compile(r"(?:\\[A-Za-z]+\s*)?[A-Za-z]?\w{0,2}'?(?:_\s*(?:\{[^{}]*\}|\w))?")
_CALL = re.compile(r"[A-Za-z](?:_\s*(?:\{[^{}]*\}|\w))?\s*\([A-Za-z](?:,\s*[A-Za-z])*\)")
_ORDER = {"\\le ": ("[", "]"), "<": ("(", ")")}
_TIDY = [
    (
        r"\\(?:displaystyle|textstyle|limits|quad|qquad|left|right|bigl?|bigr?|Bigl?|Bigr?|ensuremath)(?![A-Za-z])\.?",
        " ",
    ),
    (r"(?<!\\)\\[!,;: ]|~|\u00a0|\u2009|\u202f|\*\*", " "),
    (r"(?<=\d)\s*,\\!\s*|(?<=\d)\{,\}\s*(?=\d{3})", ""),
    (r"\\?\$|[\u20ac\u00a3\u00a5]|(?<!\\)\\[()\[\]]", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\^\s*\{?\s*(?:\\circ|\\degree|\u00b0)\s*\}?|\\degree|\u00b0|\\%|%", " "),
    (r"\\(?:text|mbox|hbox|textbf|textit|textrm|mathrm|mathbf|mathit|rm|bf)\s*\{([^{}]*)\}", r" \1 "),
    (r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])", r"\\and "),
    (r"\\(?:leqslant|leq|le)(?![A-Za-z])|\u2264|<=", r"\\le "),
    (r"\\(?:geqslant|geq|ge)(?![A-Za-z])|\u2265|>=", r"\\ge "),
    (r"\\lt(?![A-Za-z])", "<"),
    (r"\\gt(?![A-Za-z])", ">"),
    (r"\\(?:cup)(?![A-Za-z])|\u222a", r"\\cup "),
    (r"\\varnothing", r"\\emptyset "),
    (r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
    (r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
    ("\u2212|\u2013|\u2014", "-"),
    (r"\u00d7|\u22c5|\u00b7|\\times|(?<!\\)\*", r"\\cdot "),
    ("\u03c0", r"\\pi "),
    ("\u221e", r"\\infty "),
    ("\u00b1", r"\\pm "),
    (r"\u221a\s*\(?(\d+)\)?|sqrt\s*\(([^()]*)\)", r"\\sqrt{\1\2}"),
    (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
    (r"\\(frac|binom)\s*([0-9A-Za-z])", r"\\\1{\2}"),
    (r"\\(frac|binom)(\{[^{}]*\})\s*([0-9A-Za-z])", r"\\\1\2{\3}"),
    (r"(?<=\d)\s*\(", r"\\cdot("),
    (r"\\ldots|\\dots|\\cdots|\u2026", "..."),
]
_TIDY_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _TIDY]


def _tidy(answer: str) -> str:
    """Replace alternative spellings by one: dfrac by frac, Unicode signs by LaTeX, and so on."""
    text = answer.replace("\0", " ")
    # First the thousands separators, before thin spaces are removed: 10,\!080 is one number.
    for pattern, replacement in [_TIDY_COMPILED[2], *_TIDY_COMPILED]:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".,;:").strip()


def _equation(sides: list[str]) -> ParsedAnswer | None:
    left, right = sides[0].strip(), sides[-1].strip()
    value = _value(right, 0)
    if value is None:
        return None
    constant = not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", right))
    if _CALL.fullmatch(left) or (_NAME.fullmatch(left) and constant) or not re.search(r"[A-Za-z]", left):
        return ParsedAnswer(value, value)
    equation = None
    if max(_depth(left), _depth(right)) < DEEPEST:
        found = value_key(f"({left})-({right})", projective=True)
        equation = found and f"equation {found}"
    if equation is None:
        return ParsedAnswer(value, value)
    return ParsedAnswer(f"{equation} = {value}", value, equation)


def _value(text: str, depth: int) -> str | None:
    """Return the key of an answer other than an equation; None for an empty one."""
    text = text.strip().rstrip(".,;:").strip()
    if not text:
        return None
    if depth > DEEPEST:
        return f"text {_letters(text)}"
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
    if len(parts := _split(text, *COMMAS)) > 1:
        return _list(parts, depth)
    if text.startswith("\\{") and text.endswith("\\}") and text.find("\\}") == len(text) - 2:
        return _list(_split(text[2:-2], *COMMAS), depth)
    if len(parts := _split(text, "\\cup ")) > 1:
        return f"union {sorted(_value(part, depth) or '' for part in parts)}"
    if "\\pm" in text or "\\mp" in text:
        upper = text.replace("\\pm", "+").replace("\\mp", "-")
        lower = text.replace("\\pm", "-").replace("\\mp", "+")
        return _list([upper, lower], depth)
    return None


def _list(parts: list[str], depth: int) -> str | None:
    sides = [_split(part, "=") for part in parts]
    if len({side[0].strip() for side in sides if len(side) == 2}) == 1 or not all(len(side) == 2 for side in sides):
        # All parts have the same name, or some have none. The question already says what the name stands for.
        parts = [side[-1] for side in sides]
    keys: list[str] = []
    for part in parts:
        named = _split(part, "=")
        key = _value(named[-1], depth)
        if key is None:
            continue
        if len(named) > 1:
            key = f"{_letters(named[0])} = {key}"
        keys += key[5:].split(" | ") if key.startswith("list ") else [key]
    if len(keys) < 2:
        return keys[0] if keys else None
    return "list " + " | ".join(sorted(keys))


def _bracket(text: str, depth: int) -> str | None:
    r"""Return the key of a point, an interval or a parenthesised answer; `x \in (1, 2)` counts as (1, 2)."""
    if match := re.fullmatch(r"[A-Za-z]\s*\\in(?![A-Za-z])(.*)", text, re.DOTALL):
        return _value(match[1], depth)
    if not _bracketed(text):
        return None
    parts = _split(text[1:-1], ",", ";")
    if len(parts) == 1 or text[0] == "{":
        return _value(text[1:-1], depth) if text[0] + text[-1] in ("()", "[]", "{}") else None
    keys = [_value(part, depth) or "" for part in parts]
    return f"{text[0]}{', '.join(keys)}{text[-1]}"


def _bracketed(text: str) -> bool:
    """Return whether the first and the last character are a matching pair of brackets."""
    if not text or text[0] not in "([{" or text[-1] not in ")]}":
        return False
    depth = 0
    for match in re.finditer(r"\\[{}]|[()\[\]{}]", text):
        depth += 1 if match[0][-1] in "([{" else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def _matrix(text: str, depth: int) -> str | None:
    match = re.fullmatch(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", text, re.DOTALL)
    if match is None:
        return None
    rows = [row.split("&") for row in re.split(r"\\\\", match[2]) if row.strip()]
    return f"matrix {[[_value(cell, depth) or '' for cell in row] for row in rows]}"


def _inequality(text: str, depth: int) -> str | None:
    """Return the key of the interval that an inequality such as `x < 3` stands for; None for other answers."""
    turned = _split(text, "\\ge ", ">")
    if len(turned) > 1 and len(_split(text, "\\le ", "<")) == 1:
        order = re.findall(r"\\ge |>", text)
        swap = {"\\ge ": "\\le ", ">": "<"}
        text = "".join(part + (swap[order[::-1][i]] if i < len(order) else "") for i, part in enumerate(turned[::-1]))
    parts, signs = _split(text, "\\le ", "<"), re.findall(r"\\le |<", text)
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
    if (number := _exact(text)) is not None:
        return number_key(number)
    if _BASE.fullmatch(text):
        return f"base {text.replace('{', '').replace('}', '')}"
    if _WORDS.fullmatch(text) and not _FUNCTIONS.search(text):
        return f"words {_letters(text)}"
    if (match := _UNIT.fullmatch(text)) and not _FUNCTIONS.search(match[2]):
        return _value(match[1], depth) or ""
    found = value_key(text) if _depth(text) <= DEEPEST else None
    return found if found is not None else f"text {_letters(text)}"


def _depth(text: str) -> int:
    """Return the maximum depth of nested brackets."""
    level = deepest = 0
    for character in text:
        level += (character in "([{") - (character in ")]}")
        deepest = max(deepest, level)
    return deepest


def _exact(text: str) -> Fraction | None:
    """Return the value of a plain number, fraction, mixed number or repeating decimal; None for other texts."""
    text = text.strip()
    try:
        if match := _PLAIN.fullmatch(text):
            return Fraction(f"{match[1]}{match[2]}") / int(match[3] or 1)
        if match := _FRACTION.fullmatch(text):
            inner = Fraction(f"{match[3]}{match[4]}") / int(match[5])
            return Fraction(f"{match[1]}1") * (int(match[2] or 0) + inner)
        if match := _MIXED.fullmatch(text):
            return Fraction(f"{match[1]}1") * (int(match[2]) + Fraction(int(match[3]), int(match[4])))
        if match := _PERIODIC.fullmatch(text):
            whole, start, period = match[2] or "0", match[3], match[4]
            repeated = Fraction(int(period), 10 ** len(start) * (10 ** len(period) - 1))
            return Fraction(f"{match[1]}1") * (Fraction(f"{whole}.{start or 0}") + repeated)
    except ZeroDivisionError:
        return None
    return None


def _letters(text: str) -> str:
    """Return a text in lower case, without spaces, braces, periods, quotes and backslashes."""
    return re.sub(r"[\s{}.'\\]+", "", text).casefold()


def _split(text: str, *separators: str) -> list[str]:
    """Split a text at separators outside all brackets."""
    return list(_parts(text, separators))


def _parts(text: str, separators: tuple[str, ...]) -> Iterator[str]:
    depth = start = 0
    pattern = "|".join(map(re.escape, separators))
    for match in re.finditer(rf"\\begin\{{|\\end\{{\w+\}}|{pattern}|\\[{{}}]|\\[A-Za-z]+|[()\[\]{{}}]", text):
        token = match[0]
        if token in separators:
            if depth <= 0:
                yield text[start : match.start()]
                start = match.end()
        elif token == "\\begin{":
            depth += 2  # closed by its brace, and by \end
        elif token.startswith("\\end{"):
            depth -= 1
        elif token[-1] in "([{":
            depth += 1
        elif token[-1] in ")]}":
            depth -= 1
    yield text[start:]
