"""Console of all commands. It shows every text as text: see `bench.plain.terminal`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bench.plain import terminal


class PlainConsole(Console):
    """Console on which no text can give orders to the terminal. Those of rich itself are not text, and stay."""

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
