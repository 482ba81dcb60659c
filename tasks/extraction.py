r"""Places of a text where a mathematical answer stands: a box, a line after `####`, the words "the answer is"."""

from __future__ import annotations

import re
from collections import deque

from tasks.numbers import plain_text

LONGEST = 1000  # maximum characters of an announced answer
TAIL = 20_000  # characters at the end of a text that are searched for the answer
BOXES = 20  # maximum number of boxes tried, from the last one back

_LAST_NUMBER = re.compile(
    r"(?<![\d.^])(?<!\^\{)[-+]?"
    r"(?:\d+ \d+/\d+(?![\d/])"
    r"|(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)(?:\s?/\s?\d+(?![\d/]))?)"
)
_TWO = re.compile(r"\d[ \t]+\Z")
_REMARK = re.compile(
    r"(?<=[^\s\\])\s+(?:\((?=[^)]*[^()\d\s.])(?:[^()]|\([^()]*\))*(?:\)|\Z)|\[(?=[^]]*[^][\d\s.])[^][]*(?:\]|\Z))"
)
# A reason with a result of its own may hold the answer: "2 of 9 were not red, so it is 7".
_REASON = re.compile(
    r"(?<=[^\s,]),?\s+(?:because|since|not|instead\s+of|rather\s+than|out\s+of)\b(?:(?!\bis\b)[^=])*\Z", re.IGNORECASE
)
_RESULT = re.compile(r"([^=]*\d[^=]*)=([^=]*)")
_OPERATION = re.compile(r"\d\s*(?:[-+*/x\u00d7\u00f7]|\\times|\\cdot|\\div)\s*\\?\$?\d")
_SAYS = re.compile(
    r"answer(?:\s+to\s+[^.\n]{0,80})?\s*(?:\*\*)?\s*(?:is|are|:|=)+\s*(?:\*\*)?[:\s]*(?=\S)", re.IGNORECASE
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_HASHES = re.compile(r"^[ \t]*####[ \t]*([^\n]*)", re.MULTILINE)


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
    """Return the last number in a text, such as `1,024` or `-3/4`; None if there is none.

    Unusual spellings are replaced: see `tasks.numbers`. Two numbers with nothing but spaces between them, such as
    `250 300`, are none: they may be one or two.
    """
    text = plain_text(text[-TAIL:])
    match = next(iter(deque(_LAST_NUMBER.finditer(text), maxlen=1)), None)
    if match is None or (match[0][0] not in "+-" and _TWO.search(text, max(0, match.start() - 20), match.start())):
        return None
    return match[0]


def stated_number(text: str | None) -> str | None:
    """Return the number of a stated answer; None if there is none.

    It is the last number of the answer without its remarks: of `45 (9*5)`, `45 since 9*5 = 45`, `45 = 9*5` and
    `9*5 = 45` it is 45.
    """
    if text is None:
        return None
    text = without_remarks(text)
    if match := _RESULT.fullmatch(text):
        left, right = match.groups()
        text = left if _OPERATION.search(right) and not _OPERATION.search(left) else text
    return last_number(text)


def without_remarks(answer: str) -> str:
    """Return an answer without what stands in brackets behind its number, and without a reason."""
    if len(answer) > LONGEST:
        return answer
    text = _REASON.sub("", _REMARK.sub("", answer))
    return text if re.search(r"\d", text) else answer


def _braced(text: str, brace: int) -> str | None:
    """Return the text between this brace and its closing one; None if it is not closed."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, brace, brace + LONGEST * 4):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[brace + 1 : match.start()]
    return None
