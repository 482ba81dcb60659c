"""Extraction of the program from an answer."""

from __future__ import annotations

import re

# Blocks of all languages match. If one were skipped, its closing fence would be taken for an opening one. A fence right
# after code on the same line is a closing one.
_BLOCK = re.compile(r"(?<![\w)\]}'\"])```[^`\r\n]*\r?\n(.*?)(?:(?:\r?\n|^)[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def code_block(text: str, name: str) -> str | None:
    """Return the first code block that defines a function of this name, else the first block; None without a block.

    A block without a closing fence extends to the end of the text, because decoding may stop early.
    """
    blocks: list[str] = _BLOCK.findall(text)
    defining = [block for block in blocks if definition(block, name) is not None]
    return next(iter(defining + blocks), None)


def definition(code: str, name: str) -> int | None:
    """Return the position of the last top-level definition of this function; None if there is none."""
    found = re.finditer(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.MULTILINE)
    return max((match.start() for match in found), default=None)
