"""MkDocs hooks that generate the user guide, the board, and the board's excerpt on the front page.

MkDocs calls the functions whose names begin with `on_`. The others need no MkDocs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BOARD = "leaderboard/"
"""Folder of the site that holds the pages of `bench report`."""
GUIDE = "guide.md"
"""Page that is made from the README."""
MOVED = {"../reports/leaderboard.md": "board.md"}
"""Targets outside docs/ that are pages of the site."""
EXCERPT = "addition, tiny-adder"
"""Group of the board that the front page shows."""
COLUMNS = ("method", "accuracy", "vs base", "of budget", "passes per answer")
"""Columns of the excerpt. An interval in the next column is shown in the same cell."""


def on_files(files: Any, config: Any) -> Any:
    """Add the user guide and the pages of the board to the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, GUIDE, content=guide((ROOT / "README.md").read_text())))
    for name, content in board_pages().items():
        files.append(File.generated(config, BOARD + name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Point links to files outside docs/ at their pages, name pages by title, and insert the excerpt of the board."""
    for target, moved in MOVED.items():
        name = target.removeprefix("../")
        markdown = markdown.replace(f"[{name}]({target}", f"[{moved}]({moved}").replace(f"]({target}", f"]({moved}")
    markdown = titled(markdown, {file.src_uri: file.page.title for file in files.documentation_pages() if file.page})
    if "<!-- board:" in markdown:
        html = files.get_file_from_path(BOARD + "index.html").content_string
        markdown = markdown.replace("<!-- board: plot -->", plot(html))
        markdown = markdown.replace("<!-- board: table -->", table((ROOT / "reports/leaderboard.md").read_text()))
    return markdown


def guide(readme: str) -> str:
    """Return the README as a page of docs/: the same text, with links relative to that folder."""
    return readme.replace("](docs/", "](")


def titled(markdown: str, titles: dict[str, Any]) -> str:
    """Return the text with page titles in place of file names in links such as [docs/gate.md](gate.md)."""

    def link(found: re.Match[str]) -> str:
        return f"[{titles.get(found[1]) or found[1]}]({found[1]}"

    return re.sub(r"\[(?:docs/)?([\w/.-]+\.md)\]\(\1", link, markdown)


def board_pages() -> dict[str, bytes]:
    """Return the files that `bench report` writes for the committed records, by relative path."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", "report", "reports/records", "-o", folder]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def plot(html: str) -> str:
    """Return the excerpt's plot from the board's page: accuracy against FLOPs.

    Raises:
        ValueError: If the page has no plot of that group.
    """
    for figure in re.findall(r'<figure class="plot">.*?</figure>', html, re.DOTALL):
        if (drawn := re.search(r"<svg.*</svg>", figure, re.DOTALL)) and EXCERPT in figure:
            return f'<figure class="board-plot">{drawn[0]}</figure>'
    raise ValueError(f"{BOARD}index.html: no plot of {EXCERPT}; change EXCERPT in docs/hooks.py")


def table(markdown: str) -> str:
    """Return the excerpt's table from the Markdown board: one group, and the columns in `COLUMNS`.

    Raises:
        ValueError: If the board has no such group or column.
    """
    group = re.search(rf"^## {re.escape(EXCERPT)},.*?\n\n((?:\|.*\n)+)", markdown, re.MULTILINE)
    if group is None:
        raise ValueError(f"reports/leaderboard.md: no group {EXCERPT}; change EXCERPT in docs/hooks.py")
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in group[1].splitlines()]
    head = rows[0]
    if missing := set(COLUMNS) - set(head):
        raise ValueError(f"reports/leaderboard.md: no column {', '.join(missing)}; change COLUMNS in docs/hooks.py")
    shown = [head.index(name) for name in COLUMNS]
    intervals = {column for column in shown if "".join(head[column + 1 : column + 2]).endswith("95 %")}
    lines = [
        [f"{row[i]} ({row[i + 1]})" if i in intervals and row[i] else row[i] for i in shown]
        for row in (head, *rows[2:])
    ]
    lines.insert(1, [rows[1][i] for i in shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
