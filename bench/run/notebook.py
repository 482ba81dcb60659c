"""Progress in a notebook: one output of the cell, which is replaced as the run goes on.

Rich's own live display needs ipywidgets there. This one needs only what every kernel has, IPython's `display`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from bench.console import PlainConsole

WIDTH = 120
"""Width of bars in characters, about that of a notebook's cell. Lines are folded by the browser."""
SECONDS = 0.5
"""Least time between two updates."""
PAGE = '<pre style="white-space:pre-wrap;line-height:normal;font-family:monospace">{code}</pre>'


class NotebookOutput:
    """Output of a notebook's cell: lines, and below them what is live until the end.

    Args:
        live: Returns what is live.
    """

    def __init__(self, live: Callable[[], RenderableType]) -> None:
        self._live = live
        self._lines: list[Text] = []
        self._handle: Any = None
        self._open = False
        self._shown = 0.0

    def begin(self) -> None:
        """Begin a new output, in the cell that runs now."""
        self._lines, self._handle, self._open = [], None, True

    def end(self) -> None:
        """Leave the lines, and take away what is live."""
        self._open = False
        self.update(now=True)

    def say(self, text: str, style: str | None = None) -> None:
        """Add a line. One outside of `begin` and `end` is an output of its own."""
        if not self._open:
            self._lines, self._handle = [], None
        self._lines.append(Text(text, style=style or ""))
        self.update(now=True)

    def update(self, *, now: bool = False) -> None:
        """Show the present state, unless the last one is younger than `SECONDS`.

        A notebook that cannot show it any more, such as one whose kernel has lost its connection, stops no run.
        """
        if now or time.monotonic() - self._shown >= SECONDS:
            self._shown = time.monotonic()
            with suppress(Exception):
                self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        page = HTML(html([*self._lines, *([self._live()] if self._open else [])]))
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)


def html(shown: Sequence[RenderableType]) -> str:
    """Return things that rich can print as HTML."""
    console: Console = PlainConsole(
        record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, force_jupyter=False, color_system="truecolor"
    )
    for each in shown:
        console.print(each, soft_wrap=isinstance(each, Text))
    return console.export_html(code_format=PAGE, inline_styles=True)
