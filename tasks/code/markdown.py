r"""Code blocks of a reply, read as Markdown.

    blocks("Sure:\n\n~~~python\nx = 1\n~~~\n") == [Block("x = 1\n", closed=True)]

`blocks` reads by the rules of CommonMark, with the parser markdown-it-py: fences of backticks and tildes of any length,
in lists and in quotes. Models also write fences that CommonMark does not know: behind other text on a line, at the end
of the last line of code, or not indented as their list is. `sloppy_blocks` reads those. Code on the line of an opening
fence is code of the block: "```python def f(x):". `spans` are the codes within a line: `def f(x): return x`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

LONGEST = 50_000
"""Maximum characters of a reply that the parser reads; for a longer one `blocks` is empty."""
MORE_ENDS = 5
"""Maximum number of fences tried as the end of a block whose first closing fence is inside a string."""

_FENCE = re.compile(r"`{3,}|~{3,}")
_OPENING = re.compile(r"(`{3,}|~{3,})[^`~]*\Z")
_LANGUAGE = re.compile(r"[A-Za-z][\w+#.-]*\s*")
_STATEMENT = re.compile(r"(?:async\s+)?def\s|class\s|from\s+\S+\s+import\s|import\s|@\w|\w+\s*=\s*lambda\b")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.{1,5000}?)(?<!`)\1(?!`)", re.DOTALL)
# Marks that some data sets use in place of fences: [PYTHON] ... [/PYTHON] and [BEGIN] ... [DONE].
_MARKS = (
    (re.compile(r"^[ \t]*\[(?:PYTHON|BEGIN)\][ \t]*$", re.MULTILINE), "```"),
    (re.compile(r"^[ \t]*\[(?:/PYTHON|DONE)\][ \t]*$", re.MULTILINE), "```"),
)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        code: Lines between the fences, without the indentation of the list or quote that holds the block.
        closed: Whether it has a closing fence.
    """

    code: str
    closed: bool


def tidy(reply: str) -> str:
    """Return a reply with line feeds at its line ends, without byte order marks, and with fences for other marks."""
    text = reply.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    for mark, fence in _MARKS:
        text = mark.sub(fence, text)
    return text


def blocks(text: str, parses: Callable[[str], bool]) -> list[Block]:
    """Return the fenced blocks of a tidy text, in order.

    A closing fence inside a string of the code, such as a docstring, does not end a block.

    Args:
        text: The text.
        parses: Returns whether a text is a whole program.
    """
    return list(_blocks(text, parses)) if len(text) <= LONGEST else []


def _blocks(text: str, parses: Callable[[str], bool]) -> Iterator[Block]:
    lines = text.split("\n")
    for _ in range(MORE_ENDS):
        for token in _parser().parse("\n".join(lines)):
            if token.type != "fence" or token.map is None:
                continue
            first, end = token.map
            marker = token.markup[0]
            opening = _first_line(token.info)
            if token.info.rstrip().endswith(marker * 3):  # ~~~python x = 1~~~
                yield Block("\n".join(opening).rstrip(f"{marker} "), closed=True)
                lines = lines[first + 1 :]
                break
            closed = end - 1 > first and lines[end - 1].rstrip().endswith(marker * 3)
            longer = None if not closed or parses(token.content) else _longer(lines, first, end, marker, parses)
            if longer is not None:
                yield Block("\n".join([*opening, *lines[first + 1 : longer - 1]]), closed=True)
                lines = lines[longer:]
                break  # what the parser found behind the shorter block is not so
            yield Block("\n".join([*opening, token.content]), closed)
        else:
            return


def _first_line(info: str) -> list[str]:
    """Return the code that a model wrote on the line of an opening fence: `python def f(x):` holds `def f(x):`."""
    forms = info.strip(), _LANGUAGE.sub("", info.strip(), count=1)
    return [form for form in forms if _STATEMENT.match(form)][:1]


def _longer(lines: list[str], first: int, end: int, marker: str, parses: Callable[[str], bool]) -> int | None:
    """Return the line after the first later fence with which a block is a whole program; None if there is none."""
    fences = [i for i in range(end, len(lines)) if (line := lines[i].strip()) and set(line) == {marker}]
    ends = (i + 1 for i in fences[:MORE_ENDS] if parses("\n".join(lines[first + 1 : i])))
    return next(ends, None)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Tags such as <answer> would hide what follows as HTML. Inline text is not needed.
    return MarkdownIt("commonmark").disable(["html_block", "inline"])


def sloppy_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a tidy text of any length, wherever on their lines the fences are."""
    found: list[Block] = []
    fence, inside = "", list[str]()
    for line in text.split("\n"):
        word = line.strip().removeprefix(">").strip()
        paired = len(_FENCE.findall(line)) % 2 == 0  # as ```code``` within a line
        if fence and word.startswith(fence):
            # A language follows an opening fence only, so the block before was never closed.
            opens = _LANGUAGE.fullmatch(word.lstrip(fence[0])) is not None
            found.append(Block("\n".join(inside), closed=not opens))
            fence, inside = (fence if opens else ""), []
        elif fence and word.endswith(fence) and not paired:
            inside.append(line.rstrip().rstrip(fence[0]))
            found.append(Block("\n".join(inside), closed=True))
            fence, inside = "", []
        elif fence:
            inside.append(line)
        elif not paired and (opening := _OPENING.search(line)):
            fence, inside = opening[1], _first_line(line[opening.end(1) :])
    return [*found, Block("\n".join(inside), closed=False)] if fence else found


def spans(text: str) -> list[Block]:
    """Return the codes that a tidy text holds between backticks, without the name of a language before them."""
    found = [match[2].strip() for match in _SPAN.finditer(text)] if len(text) <= LONGEST else []
    return [Block("\n".join(_first_line(code)) or code, closed=True) for code in found]
