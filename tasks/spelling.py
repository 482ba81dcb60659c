r"""Spellings of mathematics, replaced by one: dfrac by frac, Unicode signs by LaTeX, units of measure by nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

from tasks.numbers import plain
from tasks.units import MEASURES

_SUPERSCRIPTS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207f"
_SUBSCRIPTS = "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u208a\u208b\u2099"
_ORDINARY = "0123456789+-n"
_TIDY: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (
        r"\\(?:displaystyle|textstyle|limits|quad|qquad|left|right|bigl?|bigr?|Bigl?|Bigr?|ensuremath)(?![A-Za-z])\.?",
        " ",
    ),
    (r"(?<!\\)\\[!,;: ]|~|\u00a0|\u2009|\u202f|\*\*", " "),
    (r"(?<=\d)\s*,\\!\s*|(?<=\d)\{,\}\s*(?=\d{3})", ""),
    (rf"[{_SUPERSCRIPTS}]+", lambda match: _raised(match[0], _SUPERSCRIPTS, "^")),
    (rf"[{_SUBSCRIPTS}]+", lambda match: _raised(match[0], _SUBSCRIPTS, "_")),
    *MEASURES,
    (r"\\?\$|[\u20ac\u00a3\u00a5]|(?<!\\)\\[()\[\]]", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\^\s*\{?\s*(?:\\circ|\\degree|\u00b0)\s*\}?|\\degree|\u00b0|\\%|%", " "),
    (r"\\(?:text|mbox|hbox|textbf|textit|textrm|mathrm|mathbf|mathit|rm|bf)\s*\{([^{}]*)\}", r" \1 "),
    (r"(?<![A-Za-z\\])and(?![A-Za-z])", r"\\and "),
    (r"(?<![A-Za-z\\])or(?![A-Za-z])", r"\\or "),
    (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\cdot "),
    (r"\^\s*\{?((?:\s*\\prime)+)\s*\}?", lambda match: "'" * match[1].count("prime")),
    ("\u2032", "'"),
    (r"\\approx(?![A-Za-z])|\u2248", "="),
    (r"\.\\dot\s*\{?(\d)\}?\s*$", r".\\overline{\1}"),
    (r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])", "|"),
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
    (r"^\s*'([^']*)'\s*$", r"\1"),
    # A letter with primes is a variable of its own. The parser would drop them.
    (r"(?<![A-Za-z]{2})([A-Za-z])('{1,4})(?!'|[A-Za-z]{2})", lambda match: f"{match[1]}_{{{'prime' * len(match[2])}}}"),
    (r"\\ldots|\\dots|\\cdots|\u2026", "..."),
]
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _TIDY]


def tidy(answer: str) -> str:
    """Replace alternative spellings by one, and remove formatting, currencies and units of measure."""
    text = plain(answer.replace("\0", " "))
    # First the thousands separators, before thin spaces are removed: 10,\!080 is one number.
    for pattern, replacement in [_COMPILED[2], *_COMPILED]:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".,;:").strip()


def _raised(characters: str, alphabet: str, sign: str) -> str:
    """Return superscripts or subscripts in LaTeX."""
    return f"{sign}{{{characters.translate(str.maketrans(alphabet, _ORDINARY))}}}"
