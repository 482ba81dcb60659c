"""Text that stays text: each function returns a text as a reader should see it, in one kind of output.

Names of models and tasks, answers and messages come from files that anybody may have written. Each kind of output takes
some characters for orders: a terminal escape sequences, Markdown links and headings, a spreadsheet formulas. These
functions replace such characters. All other text stays as it is.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of controls, of invisible characters that reorder or hide text, of halves of surrogate pairs, and
of line and paragraph separators."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
"""Characters of other categories that are shown as nothing."""
_TAGS = range(0xE0100, 0xE01F0)
"""Variation selectors that no script uses. They can carry a hidden text."""
_MARKDOWN = re.compile(
    r"[\\`*{}#|~$]"
    r"|\](?=[(\[:])"  # a link, and not `[+2.6]`
    r"|<(?=[A-Za-z/!?])"  # a tag, and not `<.0001`
    r"|&(?=#?\w+;)"  # an entity
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, and not `max_new_tokens`
    r"|:(?=//)|(?<=www)\."  # an address, which becomes a link
    r"|^>|^[-+](?=[\s-]|$)|^=+$|^\d{1,9}[.)](?=\s|$)",  # quote, list, rule and underlined heading
    re.IGNORECASE,
)
"""Characters that are orders in a line of Markdown, the last one of each match."""
_FORMULA = re.compile(" *[=+@\uff1d\uff0b\uff0d\uff20-]")
"""Start of a text that a spreadsheet takes for a formula, also in the wide forms of the characters."""
_NUMBERS = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( [-+]?[\d.]+(e[-+]?\d+)?)*", re.IGNORECASE | re.ASCII)
_LONGEST_NAME = 180
"""Maximum length of a file name in bytes. Most file systems allow 255."""


def terminal(text: str) -> str:
    r"""Return a text for a terminal. New lines and tabs stay.

    Controls, characters that reorder or hide text, and halves of surrogate pairs become escapes, such as `\x9b` for a
    byte that starts an escape sequence, and `\u202e` for one that reverses the text after it.
    """
    return _escaped(text, keep="\n\t")


def line(text: str) -> str:
    r"""Return a text for one line of a terminal: as `terminal` does, and a new line becomes `\n`, a tab `\t`."""
    return _escaped(text, keep="")


def sentence(text: str) -> str:
    """Return a text of several lines as one line of a terminal: as `line` does, with one space for all white space."""
    return line(" ".join(text.split()))


def _escaped(text: str, keep: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        ascii(character)[1:-1] if _is_unseen(character) and character not in keep else character for character in text
    )


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or character in _BLANK or ord(character) in _TAGS


def markdown(text: str) -> str:
    """Return a text for one line or table cell of Markdown, which renders as that text.

    Characters that Markdown would take for its own become HTML entities: `[x](y)` is `[x&#93;(y)`. Entities hold in
    tables and in all dialects, unlike backslashes.
    """
    return _MARKDOWN.sub(lambda found: f"{found[0][:-1]}&#{ord(found[0][-1])};", line(text).strip(" "))


def csv_cell(value: object) -> object:
    """Return a value for a cell of a CSV file. A text that a spreadsheet would compute gets a `'` in front.

    Numbers stay numbers, also as text and several in a row: `-0.5`, `"2048"`, `"-0.1 0.2"`. None is an empty cell.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    text = line(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBERS.fullmatch(text) else text


def file_name(text: str) -> str:
    """Return a text as the name of a file or folder: letters, digits and `_.+-`, at most 180 bytes long.

    Examples: `mbpp to humaneval` becomes `mbpp-to-humaneval`, `../../x` becomes `x`. A longer name is cut, and ends in
    a digest of the whole.
    """
    name = re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "unnamed"
    if len(data := name.encode()) <= _LONGEST_NAME:
        return name
    kept = data[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:8]}"
