"""Texts with brackets: splitting outside them, and their depth."""

from __future__ import annotations

import re
from collections.abc import Iterator


def split(text: str, *separators: str) -> list[str]:
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


def bracketed(text: str) -> bool:
    """Return whether the first and the last character are a matching pair of brackets."""
    if not text or text[0] not in "([{" or text[-1] not in ")]}":
        return False
    depth = 0
    for match in re.finditer(r"\\[{}]|[()\[\]{}]", text):
        depth += 1 if match[0][-1] in "([{" else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def depth_of(text: str) -> int:
    """Return the maximum depth of nested brackets."""
    level = deepest = 0
    for character in text:
        level += (character in "([{") - (character in ")]}")
        deepest = max(deepest, level)
    return deepest


def letters(text: str) -> str:
    """Return a text in lower case, without spaces, braces, periods, quotes and backslashes."""
    return re.sub(r"[\s{}.'\\]+", "", text).casefold()
