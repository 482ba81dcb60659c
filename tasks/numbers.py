r"""Spellings of numbers, replaced by digits with a decimal point, a minus sign and a fraction bar.

    plain("9{,}500") == plain(r"9\,500") == "9500"            thousands, apart from ordinary commas
    plain("10 000") == "10000"; plain("in 12 500 g") == "in 12 500 g"     an ordinary space may separate two numbers
    plain("-$5") == plain("\u22125") == "-5"                    signs
    plain("1.5e3") == "1500"; plain("2 million") == "2000000"   powers of ten
    plain("3 dozen") == "36"; plain("it is minus 3") == "it is -3"      words
    plain("1\u00bd") == r"1\frac{1}{2}"                         fractions of one character
    plain_text(r"1\frac{1}{2}") == plain_text("1 1/2") == "1 1/2"

`plain` keeps LaTeX as it is, for `tasks.maths`. `plain_text` is for texts in which the last number is looked for. There
2k is 2000: directly behind a number, k, K, M, B, bn, mn and tn are powers of ten. They are none before a letter or an
operator (2 km, 2k = 10), before a word that says otherwise (4K video, 5k race), or if the text has the letter as a
variable (let k be). A small m is a million behind or before a currency only: $5m and 5m dollars, but 5m are metres.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from fractions import Fraction

SPACES = "\u00a0\u2007\u2009\u202f"
"""Characters that separate thousands and never words: no-break and thin spaces."""
MULTIPLES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LETTERS = {"k": 3, "m": 6, "mn": 6, "b": 9, "bn": 9, "tn": 12}
"""Powers of ten by their letters behind an amount, such as $5k."""
NOT_AMOUNTS = (
    r"(?:video|resolution|display|screen|tv|television|monitor|camera|footage|projector|run|race|marathon|walk|ram|memory)"
    r"s?"
)
"""Words before which a letter behind a number is no power of ten: a 4K video, a 5k race."""

_CURRENCY = r"(?:\\?\$|[\u20ac\u00a3\u00a5\u20b9])"
_GAP = rf"(?:[\s~{SPACES}]|\\[ ,;:!])*"
_BETWEEN = rf"(?:\{{,\}}|,?\\[!,:; ]\s*|[~'\u2019_{SPACES}])"
_DIGITS = r"\d[\d,]*(?:\.\d+)?"
_THOUSANDS = re.compile(rf"(?<![\d.,])\d{{1,3}}(?:{_BETWEEN}\d{{3}})+(?!\d)")
# 1,00,000: a group that starts with 0 is no number of its own, so this is no list.
_INDIAN = re.compile(r"(?<![\d.,])\d{1,2}(?=[\d,]*,0)(?:,\d{2})+,\d{3}(?![\d,])")
_SPACED = re.compile(r"(?<![\d.,/^])\d{1,3}(?: \d{3})+(?!\d|[,.]\d|/|-\w)")
_RESULT = re.compile(r"(?:=|\bis)\s*\\?\$?\Z")
_WORD = re.compile(
    rf"(?<![\d.,/])({_DIGITS}){_GAP}(?:\\text\s*\{{\s*)?\b({'|'.join(MULTIPLES)})s?\b(?:\s*\}})?", re.IGNORECASE
)
_LETTER = re.compile(rf"({_CURRENCY})\s?({_DIGITS})\s?({'|'.join(LETTERS)})(?![A-Za-z])", re.IGNORECASE)
_BARE_LETTER = re.compile(
    rf"(?<![\w.,/^\\])({_DIGITS})(?:([kKMB]|m(?=\s(?:dollars|euros|pounds)\b))|\s?(mn|bn|tn))(?![\w'\u00b0/^])"
    rf"(?!\s*[=*(])(?!\s*[-+]\s*\d)(?!\s(?i:{NOT_AMOUNTS})\b)"
)
_ALONE = re.compile(r"(?<![\w'])[kKMBm](?![\w'])")
_A_DOZEN = re.compile(r"\b(half\s+)?an?\s+(?:(half)\s+)?dozen\b", re.IGNORECASE)
_MINUS = re.compile(
    r"(^[ \t]*|[:=(#*][ \t]*|\b(?:is|are|was|were|be|to|of|by|at|equals|answer)\s+)(?:minus|negative)\s+"
    rf"(?:{_CURRENCY}\s?)?(?=\d)",
    re.IGNORECASE | re.MULTILINE,
)
_EXPONENT = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})(?![\w.])")
_TIMES_TEN = re.compile(
    r"(?<![\w./^\\])(\d+(?:\.\d+)?)\s*(?:\\times|\\cdot|[x*\u00d7\u22c5\u00b7])\s*10\s*\^\s*\{?\s*(-?\d{1,3})\s*\}?"
)
_SIGN = re.compile(rf"(?<![\w)\]}}])(?<![\d)\]}}]\s)-\s?{_CURRENCY}\s?(?=[\d.])")
_DASH = re.compile(r"(?<![\w)\]}\s])[\u2013\u2014](?=[\d.])|(?<=[A-Za-z:=(]\s)\u2013(?=\d)")
_FRACTION = re.compile(r"(?:(\d)\s*)?\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_PLAIN = re.compile(r"([-+]?)\s*(\d*\.?\d+|\d+\.)(?:\s*/\s*(\d+))?")
_LATEX_FRACTION = re.compile(r"([-+]?)\s*(\d*)\s*\\frac\{\s*([-+]?)(\d+)\s*\}\{\s*(\d+)\s*\}")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_PERIODIC = re.compile(r"([-+]?)(\d*)\.(\d*)\\overline\{(\d+)\}")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")


def plain(text: str) -> str:
    """Return a text with ordinary spellings of its numbers; LaTeX stays."""
    text = re.sub("[\u2212\ufe63\uff0d]", "-", text).replace("\u2044", "/")
    text = _DASH.sub("-", text)
    text = _VULGAR.sub(_latex, text)
    text = re.sub(r"(?<=\d)\{([.,])\}(?=\d)", lambda match: match[0] if match[1] == "," else ".", text)
    text = _THOUSANDS.sub(lambda match: re.sub(_BETWEEN, "", match[0]), text)
    text = _INDIAN.sub(lambda match: match[0].replace(",", ""), text)
    text = _SPACED.sub(_joined, text)
    text = _MINUS.sub(r"\1-", _SIGN.sub("-", text))
    text = _LETTER.sub(lambda match: match[1] + _shifted(match[2], LETTERS[match[3].lower()]), text)
    text = _A_DOZEN.sub(lambda match: "6" if match[1] or match[2] else "12", text)
    for _ in MULTIPLES:  # 2 hundred thousand
        text, count = _WORD.subn(lambda match: _shifted(match[1], 0, MULTIPLES[match[2].lower()]), text)
        if not count:
            break
    return _EXPONENT.sub(lambda match: _shifted(match[1], int(match[2])), text)


def plain_text(text: str) -> str:
    r"""Return a text with plain numbers and without LaTeX in them: `\frac12` is 1/2, and `1.5 \times 10^3` is 1500."""
    text = _FRACTION.sub(lambda m: f"{m[1] or ''} {m[2] or m[3]}/{m[4] or m[5]}".lstrip(), amounts(plain(text)))
    text = _TIMES_TEN.sub(lambda match: _shifted(match[1], int(match[2])), text)
    return re.sub(r"\bnegative\s+(?=\d)", "-", text, flags=re.IGNORECASE)


def amounts(text: str) -> str:
    """Replace letters of powers of ten behind the numbers of a text, by the rule of this module."""
    variables = set(_ALONE.findall(text))

    def replace(match: re.Match[str]) -> str:
        letters = match[2] or match[3]
        return match[0] if letters in variables else _shifted(match[1], LETTERS[letters.lower()])

    return _BARE_LETTER.sub(replace, text)


def _latex(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _joined(match: re.Match[str]) -> str:
    """Join groups of digits that ordinary spaces separate, unless they may be numbers of their own.

    They are one number if a later group starts with 0, if there are three or more, at the start of the text, or as the
    result at the end of an equation or a sentence: = 3 400.
    """
    more = match[0].split(" ")[1:]
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 10) : start], text[end : end + 2].partition("\n")[0]
    starts = start == len(before) and not before.strip(" $-")
    ends = _RESULT.search(before) and not after.strip(" .,;$*")
    joined = starts or ends or len(more) > 1 or any(group[0] == "0" for group in more)
    return match[0].replace(" ", "") if joined else match[0]


def _shifted(digits: str, power: int, factor: int = 1) -> str:
    """Return a number times a power of ten and a factor, without an exponent: 2.5 and 6 give 2500000."""
    try:
        number = (Decimal(digits.replace(",", "")) * factor).scaleb(power)
    except InvalidOperation:
        return digits
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact(text: str) -> Fraction | None:
    """Return the value of a plain number, fraction, mixed number or repeating decimal; None for other texts."""
    text = text.strip()
    try:
        if match := _PLAIN.fullmatch(text):
            return Fraction(f"{match[1]}{match[2]}") / int(match[3] or 1)
        if match := _LATEX_FRACTION.fullmatch(text):
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
