"""Console and tables of all commands.

Every text is shown as text: see `bench.plain.terminal`. A table loses no cell and breaks no word, whatever the width of
the terminal; in a pipe nothing is folded at all.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bench.plain import line, terminal

UNFOLDED = 100_000
"""Width of a console that folds nothing, such as a pipe."""
_WORDS = re.compile(r"[^ ]+(?: to [^ ]+| %[^ ]*)*")
"""Words of a text. An interval and a percentage are one word: `49.3 to 55.5`, `52.4 %`."""
_BREAKS = re.compile(r"(?<=[^\W\d_][-_.:/])(?=[^\W\d_])|(?<=,)(?=.)")
"""Places in a word where it may be broken if it is longer than the line: after a sign between letters, or a comma."""

Cell = str | Text
"""Text of a cell, or a styled text, which is not folded. Lines after a line break are printed dim."""


class PlainConsole(Console):
    """Console on which no text can give orders to the terminal. Those of rich itself are not text, and stay.

    A console that is no terminal has no width, unless the environment has COLUMNS: nothing is folded there.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if options.get("width") is None and not self.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            self.width = UNFOLDED

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text ready for layout, whose escapes take their place."""
        return super().render_str(terminal(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything that can be printed, such as a progress bar, which lays out its own text."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(terminal(text), style)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line how a command ends whose reader has gone."""
        raise


def heading(console: Console, text: str) -> None:
    """Print a heading above a text, with a rule over the console's width if it has one."""
    if console.width < UNFOLDED:
        console.rule(Text(line(text)), align="left")
    else:
        console.print(Text(f"{line(text)} ──"), soft_wrap=True)


@dataclass
class PlainTable:
    """Table that fits the width of its console, without loss.

    As the width shrinks, first the headings are folded, then the texts of some columns at spaces, then these within
    words, after hyphens and the like. If that is not enough, each row becomes a paragraph of `heading value` pairs.

    Attributes:
        headings: Headings of the columns. The first column holds the names of the rows.
        rows: Cells of each row.
        left: Headings of the columns that are aligned to the left.
        folds: Headings of the columns whose texts may be folded; None for those aligned to the left.
        title: Title above the table.
    """

    headings: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    left: Collection[str] = ("",)
    folds: Collection[str] | None = None
    title: str = ""

    def add_row(self, *cells: Cell) -> None:
        """Add a row below the others."""
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay out the table in the width of a console."""
        width, headings = options.max_width, self.headings
        if self.title:
            yield Text(fold(line(self.title), width), style="italic")
        plain = [[_plain(cell) for cell in row] for row in self.rows]
        folds = self.left if self.folds is None else self.folds
        found = _layout(headings, plain, width, [name in folds for name in headings])
        if found is None:
            yield from (_paragraph(headings, row, width) for row in plain)
            return
        made = Table(box=None, pad_edge=False, collapse_padding=found.gap == 1, header_style="bold")
        below = [_below(name, room, broken=found.broken) for name, room in zip(headings, found.widths, strict=True)]
        for name, room, count in zip(headings, found.widths, below, strict=True):
            # What is above a line break ends in the same line in all headings, and what is below begins in the next.
            text = _cell(name, room, broken=found.broken).append("\n " * (max(below) - count if count else 0))
            made.add_column(text, justify="left" if name in self.left else "right", no_wrap=True, width=room)
        for row in self.rows:
            made.add_row(
                *(_cell(cell, room, broken=found.broken) for cell, room in zip(row, found.widths, strict=True))
            )
        yield made


def fits(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, folds: Collection[str], *, broken: bool = False
) -> bool:
    """Return whether a table fits a width with one line for each row, but for texts that are folded at spaces.

    Args:
        headings: As for `PlainTable`.
        rows: As for `PlainTable`.
        width: As for `PlainTable`.
        folds: As for `PlainTable`.
        broken: Whether texts may also be folded after hyphens and the like.
    """
    found = _layout(headings, rows, width, [name in folds for name in headings])
    return found is not None and (broken or not found.broken)


def fold(text: str, width: int, hang: int = 0) -> str:
    """Return a text in lines of at most this width, broken at spaces alone. A longer word has a line of its own.

    Other spaces stay, as between columns.

    Args:
        text: Text without line breaks.
        width: Width in characters.
        hang: Number of spaces before each line after the first.
    """
    return textwrap.fill(text, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class _Layout:
    """Widths of a table's columns, the spaces between them, and whether words are broken after hyphens and the like."""

    widths: list[int]
    gap: int
    broken: bool


def _layout(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, folds: Sequence[bool]
) -> _Layout | None:
    """Return the layout of a table in a width; None if there is none."""
    columns = list(zip(*rows, strict=True)) or [()] * len(headings)
    whole = [max(map(_longest, texts), default=0) for texts in columns]
    for broken in (False, True):
        words = [max((_longest_word(text, broken) for text in texts), default=0) for texts in columns]
        least = [part if fold else full for fold, part, full in zip(folds, words, whole, strict=True)]
        named = [_longest_word(name, broken) for name in headings]
        # First the headings alone are folded, then the texts as well.
        for gap, bounds in ((2, whole), (1, whole), (1, least)):
            room = width - gap * (len(headings) - 1)
            widths = [max(full, _longest(name)) for full, name in zip(whole, headings, strict=True)]
            lowest = [max(each, name) for each, name in zip(bounds, named, strict=True)]
            if sum(lowest) <= room:
                shrunk = _shrunk(widths, lowest, sum(widths) - room)
                cells = zip(headings, columns, shrunk, strict=True)
                return _Layout([_needed([head, *texts], most, broken) for head, texts, most in cells], gap, broken)
    return None


def _shrunk(widths: list[int], lowest: Sequence[int], excess: int) -> list[int]:
    """Return widths with this many characters taken away, each from the widest that is above its lowest."""
    for _ in range(excess):
        widths[max((at for at, width in enumerate(widths) if width > lowest[at]), key=widths.__getitem__)] -= 1
    return widths


def _needed(texts: Sequence[str], width: int, broken: bool) -> int:
    """Return the width that texts need where they are folded at a width: that of their longest line."""
    parts = (part for text in texts for part in text.split("\n"))
    return max(cell_len(found) for part in parts for found in _lines(part, width, broken=broken))


def _longest(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_word(text: str, broken: bool) -> int:
    return max((cell_len(part) for each in text.split("\n") for _, part in _tokens(each, broken)), default=0)


def _tokens(text: str, broken: bool) -> Iterator[tuple[str, str]]:
    """Yield the words of a text, or the parts of its words, each with the space before it."""
    for word in _WORDS.findall(text):
        for at, part in enumerate(_BREAKS.split(word) if broken and " " not in word else [word]):
            yield "" if at else " ", part


def _lines(text: str, width: int, *, broken: bool) -> list[str]:
    """Return a text in lines of at most this width, where its words allow it."""
    lines = [""]
    for space, part in _tokens(text, broken):
        if lines[-1] and cell_len(lines[-1] + space + part) > width:
            lines.append(part)
        else:
            lines[-1] += (space if lines[-1] else "") + part
    return lines


def _cell(cell: Cell, width: int, *, broken: bool) -> Text:
    if isinstance(cell, Text):
        return cell
    top, *below = (_lines(each, width, broken=broken) for each in _plain(cell).split("\n"))
    found = Text("\n".join(top))
    if below:
        found.append("\n" + "\n".join(each for lines in below for each in lines), "dim")
    return found


def _below(text: str, width: int, *, broken: bool) -> int:
    """Return the number of lines of a folded text that are below its first line break."""
    return sum(len(_lines(each, width, broken=broken)) for each in text.split("\n")[1:])


def _paragraph(headings: Sequence[str], cells: Sequence[str], width: int) -> Text:
    """Return a row as a paragraph: the first cell, and below it each other cell with its heading."""
    name, *others = (cell.replace("\n", ", ") for cell in cells)
    heads = (head.replace("\n", ", ") for head in headings[1:])
    pairs = [f"{head} {cell}" for head, cell in zip(heads, others, strict=True) if cell]
    below = _lines("; ".join(pairs), width - 2, broken=True)
    return Text("\n  ".join([fold(name, width, 2), *below]), overflow="fold")


def _plain(cell: Cell) -> str:
    return cell.plain if isinstance(cell, Text) else "\n".join(map(line, cell.split("\n")))
