"""Finding the program in an answer."""

from __future__ import annotations

import re

# Whatever the language, since the end of a block that is passed over would be taken for the beginning of one; but not
# right after code, where a fence ends what stands in the line.
_BLOCK = re.compile(r"(?<![\w)\]}'\"])```[^`\r\n]*\r?\n(.*?)(?:(?:\r?\n|^)[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def code_block(text: str, name: str) -> str | None:
    """Return the fenced block that defines a function of this name, or the first block; None without a fence.

    An unclosed last fence runs to the end, since decoding may stop there.
    """
    blocks: list[str] = _BLOCK.findall(text)
    defining = [block for block in blocks if definition(block, name) is not None]
    return next(iter(defining + blocks), None)


def definition(code: str, name: str) -> int | None:
    """Return where the last top-level definition of this function begins; None if there is none."""
    found = re.finditer(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.MULTILINE)
    return max((match.start() for match in found), default=None)
