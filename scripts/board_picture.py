"""Draw the picture of the board in the README: one group of the committed records, as `bench leaderboard` prints it.

    python scripts/board_picture.py

writes docs/images/board.svg. A test compares the picture with the records.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.terminal_theme import TerminalTheme

from bench.console import PlainConsole
from bench.records.files import write_atomically
from reports.leaderboard.build import make_board
from reports.leaderboard.columns import columns
from reports.leaderboard.text import group_table
from reports.reading import find_records, read_records

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "reports" / "records" / "addition" / "tiny-adder"
PICTURE = ROOT / "docs" / "images" / "board.svg"
GROUP = {"budget": "small", "ruleset": "published"}
WIDTH = 118
"""Characters in a line. A wider picture would be too small to read where pages show it."""
LIGHT = TerminalTheme((255, 255, 255), (36, 41, 47), [(36, 41, 47)] * 8)


def picture() -> str:
    """Return the picture as SVG. It loads nothing from elsewhere.

    Raises:
        ValueError: If the records do not have exactly one such group.
    """
    records, unreadable = read_records(find_records([RECORDS])[0])
    board = make_board(list(records.values()))
    found = [group for group in board.groups if all(getattr(group, key) == value for key, value in GROUP.items())]
    if unreadable or len(found) != 1:
        raise ValueError(f"{RECORDS}: {len(found)} groups with {GROUP}, {len(unreadable)} unreadable; expected 1 and 0")
    console = PlainConsole(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(group_table(found[0], columns(board), WIDTH))
    local = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="bench leaderboard", theme=LIGHT, code_format=local, unique_id="board") + "\n"


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    write_atomically(PICTURE, picture())
