"""Bars of the progress display: a line for the whole run, one for its budget, and one for each open stage."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from bench.plain import line
from bench.run.timekeeper import clock

WIDE = 100
"""Width of a terminal, in characters, from which the display has room for FLOPs and a long bar."""


def bars(console: Console, *, disable: bool) -> Progress:
    """Return bars whose tasks have the fields `amount` and `best`, and optionally `left`.

    `left` is a function that returns the time left, or None for a line that shows none. Without it, the time left
    follows from the speed of the task's own steps.

    Args:
        console: Console to draw on.
        disable: Whether to draw nothing.
    """
    width = 20 if console.width >= WIDE else 10
    return Progress(
        _Description(),
        BarColumn(bar_width=width, table_column=Column(width=width)),
        TextColumn("{task.fields[amount]}"),
        _TimeLeft(compact=True, table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[best]}"),
        console=console,
        transient=True,
        disable=disable,
    )


class _Description(ProgressColumn):
    """Name of a stage, cut off where the terminal has no room for it."""

    def render(self, task: Task) -> Text:
        """Return the name."""
        return Text(line(task.description).ljust(26), no_wrap=True, overflow="ellipsis")


class _TimeLeft(TimeRemainingColumn):
    """Time left of the run or of a stage."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the time."""
        if "left" not in task.fields:
            return super().render(task)
        if task.fields["left"] is None:
            return Text("")
        return Text(clock(task.fields["left"]()) or "--:--", style="progress.remaining")
