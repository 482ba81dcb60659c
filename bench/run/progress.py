"""Progress display of a run, on stderr: stage, best score, spent budget, time left. It never affects a result."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from bench.compute.meter import Meter
from bench.console import PlainConsole
from bench.plain import line
from bench.run.observer import Observers

WIDE = 100
"""Width of a terminal, in characters, from which the display has room for FLOPs and a long bar."""


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment.

    Attributes:
        stage: Present stage, such as `population`; empty between stages.
        steps: Its finished steps, such as `12/64`; empty if they are not counted.
        best: Best score of the last stage that had one; None without one.
        spent: Spent share of the budget; None while it is not known.
        seconds_left: Time left for the adaptation, and then for the present stage; None if it is not known.
    """

    stage: str = ""
    steps: str = ""
    best: float | None = None
    spent: float | None = None
    seconds_left: float | None = None


class ProgressDisplay:
    """Live progress on a terminal; elsewhere one line per stage, such as `population: 64 done, best 0.250, 3.1 s`.

    On a narrow terminal the names of stages are cut off; spent budget, time left and best score stay.

    Args:
        console: Console to write to; stderr by default.
        quiet: Write nothing.

    Attributes:
        seconds: Wall-clock time by stage, measured even if quiet.
        observers: Observers of the run, which hear of it even if quiet.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or PlainConsole(stderr=True)
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        self.observers = Observers(lambda text: self.note(text))
        self._budget: TaskID | None = None
        self._best: float | None = None
        self._wide = self.console.width >= WIDE
        bar = 20 if self._wide else 10
        self._progress = Progress(
            _Description(),
            BarColumn(bar_width=bar, table_column=Column(width=bar)),
            TextColumn("{task.fields[amount]}"),
            _TimeLeft(compact=True, table_column=Column(no_wrap=True)),
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

    def note(self, text: str) -> None:
        """Print a fact that the user should know of. Unlike progress, the table of a grid shows it too, once."""
        self.say(text)

    def watch(self, meter: Meter, evaluations: int, flops: int) -> None:
        """Show the spent budget, and update it with each booking of the meter.

        Args:
            meter: Meter of the run. It has no limit once the adaptation has ended.
            evaluations: Budget of the run in model-prompt evaluations.
            flops: Budget of the run in FLOPs.
        """
        self._budget = self._progress.add_task("adaptation budget", total=flops, amount="", best="")

        def show() -> None:
            assert self._budget is not None
            if meter.limit is None:
                self._progress.stop_task(self._budget)
            amount = f"{meter.ledger.adaptation().evaluations}/{evaluations} evaluations"
            amount += f", {meter.spent:.2e}/{flops:.2e} FLOPs" if self._wide else ""
            self._progress.update(self._budget, completed=meter.spent, amount=amount)

        meter.listeners.append(show)
        show()
        self.observers.tell(lambda each: each.budgeted(meter, evaluations, flops))

    @contextmanager
    def observed(self, folder: Path, identity: str) -> Iterator[None]:
        """Tell the observers of a run that it begins, and how the block ended: complete if nothing was raised."""
        self.observers.tell(lambda each: each.began(folder, identity))
        complete = False
        try:
            yield
            complete = True
        finally:
            self.observers.tell(lambda each: each.ended(complete=complete))

    def bytes(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of a download or conversion, in bytes. Callback for `bench.models`."""
        task = next((t for t in self._progress.tasks if t.description == stage), None)
        amount = f"{done / 1e6:.0f}" + (f"/{total / 1e6:.0f} MB" if total else " MB")
        if task is None:
            self.note(f"{stage} ...")
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
        stage = StageDisplay(self._progress, task, steps, self.observers)
        try:
            yield stage
        finally:
            seconds = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self._progress.remove_task(task)
            done = [f"{stage.done} done"] if stage.done else []
            if math.isfinite(stage.best):
                self._best = stage.best
                done.append(f"best {stage.best:.3f}")
                if self._budget is not None:
                    self._progress.update(self._budget, best=done[-1])
            self.say(f"{name}: {', '.join([*done, f'{seconds:.1f} s'])}", style="dim")

    def snapshot(self) -> Snapshot:
        """Return the present state of the run."""
        tasks = {task.id: task for task in self._progress.tasks}
        budget = None if self._budget is None else tasks.pop(self._budget)
        stage = next(reversed(tasks.values()), None)
        best = stage.fields.get("score", -math.inf) if stage else -math.inf
        timed = budget if budget and budget.stop_time is None else stage
        return Snapshot(
            stage=stage.description if stage else "",
            steps=stage.fields["amount"] if stage else "",
            best=best if math.isfinite(best) else self._best,
            spent=budget.completed / budget.total if budget and budget.total else None,
            seconds_left=timed.time_remaining if timed and timed.total else None,
        )


class StageDisplay:
    """One phase on the progress display."""

    def __init__(self, progress: Progress, task: TaskID, steps: int | None, observers: Observers) -> None:
        self._progress, self._task, self._steps, self._observers = progress, task, steps, observers
        self.done = 0
        self.best = -math.inf
        self._show()

    def advance(
        self, score: float | None = None, steps: int = 1, *, values: Mapping[str, float | None] | None = None
    ) -> None:
        """Count finished steps. A score updates the best score shown; observers get the values of a training step."""
        self.done += steps
        if score is not None and not math.isnan(score):
            self.best = max(self.best, score)
        self._show()
        self._observers.tell(lambda each: each.advanced(values or {}))

    def _show(self) -> None:
        amount = f"{self.done}/{self._steps}" if self._steps else f"{self.done or ''}"
        best = f"best {self.best:.3f}" if math.isfinite(self.best) else ""
        self._progress.update(self._task, completed=self.done, amount=amount, best=best, score=self.best)


class _Description(ProgressColumn):
    """Name of a stage, cut off where the terminal has no room for it."""

    def render(self, task: Task) -> Text:
        """Return the name."""
        return Text(line(task.description).ljust(26), no_wrap=True, overflow="ellipsis")


class _TimeLeft(TimeRemainingColumn):
    """Time left of a stage, or of the adaptation until it has ended."""

    def render(self, task: Task) -> Text:
        """Return the time."""
        return Text("") if task.stop_time is not None else super().render(task)
