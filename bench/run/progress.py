"""Progress display of a run, on stderr: stage, best score, spent budget, time left. It never affects a result."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.compute.meter import Meter
from bench.console import PlainConsole
from bench.plain import line


class ProgressDisplay:
    """Live progress on a terminal; elsewhere one line per stage, such as `population: 64 done, best 0.250, 3.1 s`.

    Args:
        console: Console to write to; stderr by default.
        quiet: Write nothing.

    Attributes:
        seconds: Wall-clock time by stage, measured even if quiet.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or PlainConsole(stderr=True)
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        self._budget: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description:<26}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[best]}"),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line verbatim, without markup; a new line in the text is shown as `\\n`."""
        if not self.quiet:
            verbatim: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
            self._progress.console.print(line(text), style=style, **verbatim)

    def watch(self, meter: Meter, evaluations: int) -> None:
        """Show the spent budget, and update it with each booking of the meter."""
        limit = meter.limit or 1
        self._budget = self._progress.add_task("adaptation budget", total=limit, amount="", best="")

        def show() -> None:
            assert self._budget is not None
            done = meter.ledger.adaptation().evaluations
            amount = f"{done}/{evaluations} evaluations, {meter.spent:.2e}/{limit:.2e} FLOPs"
            self._progress.update(self._budget, completed=meter.spent, amount=amount)

        meter.listeners.append(show)
        show()

    def bytes(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of a download or conversion, in bytes. Callback for `bench.models`."""
        task = next((t for t in self._progress.tasks if t.description == stage), None)
        amount = f"{done / 1e6:.0f}" + (f"/{total / 1e6:.0f} MB" if total else " MB")
        if task is None:
            self.say(f"{stage} ...")
            self._progress.add_task(stage, total=total, completed=done, amount=amount, best="")
        else:
            self._progress.update(task.id, total=total, completed=done, amount=amount)
            if total is not None and done >= total:
                self._progress.remove_task(task.id)

    @contextmanager
    def stage(self, name: str, steps: int | None = None) -> Iterator[StageDisplay]:
        """Show one phase and measure its time."""
        started = time.perf_counter()
        task = self._progress.add_task(name, total=steps, amount="", best="")
        stage = StageDisplay(self._progress, task, steps)
        try:
            yield stage
        finally:
            seconds = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self._progress.remove_task(task)
            best = "" if math.isinf(stage.best) else f", best {stage.best:.3f}"
            self.say(f"{name}: {stage.done} done{best}, {seconds:.1f} s", style="dim")


class StageDisplay:
    """One phase on the progress display."""

    def __init__(self, progress: Progress, task: TaskID, steps: int | None) -> None:
        self._progress, self._task, self._steps = progress, task, steps
        self.done = 0
        self.best = -math.inf
        self._show()

    def advance(self, score: float | None = None, steps: int = 1) -> None:
        """Count finished steps. A score updates the best score shown."""
        self.done += steps
        if score is not None and not math.isnan(score):
            self.best = max(self.best, score)
        self._show()

    def _show(self) -> None:
        amount = f"{self.done}" + (f"/{self._steps}" if self._steps else "")
        best = "" if math.isinf(self.best) else f"best {self.best:.3f}"
        self._progress.update(self._task, completed=self.done, amount=amount, best=best)
