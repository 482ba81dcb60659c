"""Progress display of a run: stage, best score, spent budget, time left. It never affects a result.

It is live on a terminal and in a notebook. Elsewhere, as in the log of a batch job, it writes lines to stderr.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from bench.compute.meter import Meter
from bench.console import PlainConsole
from bench.plain import line
from bench.run.bars import WIDE, bars
from bench.run.notebook import NotebookOutput
from bench.run.observer import Observers
from bench.run.timekeeper import Timekeeper, duration, ends_at

OFTEN, SELDOM = 60.0, 600.0
"""Seconds between two lines of a log: at least, when another tenth of a stage is done, and at most."""


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment.

    Attributes:
        stage: Present stage, such as `population`; empty between stages.
        steps: Its finished steps, such as `12/64`; empty if they are not counted.
        best: Best score of the last stage that had one; None without one.
        spent: Spent share of the budget; None while it is not known.
        seconds_left: Time left of the whole run; None while it is not known.
    """

    stage: str = ""
    steps: str = ""
    best: float | None = None
    spent: float | None = None
    seconds_left: float | None = None


class ProgressDisplay:
    """Live progress on a terminal and in a notebook; elsewhere lines.

    A line per stage says how it ended, such as `population: 64 done, best 0.250, 3.1 s`. Without a terminal, a long
    stage also has lines in between. On a narrow terminal the names of stages are cut off; spent budget, time left and
    best score stay.

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
        self._timekeeper: Timekeeper | None = None
        self._run: TaskID | None = None
        self._open: list[tuple[str, StageDisplay]] = []
        self._transfer: tuple[str, TaskID | None] | None = None
        self._written, self._tenths = time.perf_counter(), 0  # of the last line, and of the stage then
        self._wide = self.console.width >= WIDE
        self._progress = bars(self.console, disable=quiet or not self.console.is_terminal)
        in_notebook = self.console.is_jupyter and not quiet
        self._notebook = NotebookOutput(self._progress.get_renderable) if in_notebook else None
        self._logs = not (quiet or in_notebook or self.console.is_terminal)

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        if self._notebook is not None:
            self._notebook.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._notebook is not None:
            self._notebook.end()

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line verbatim, without markup; a new line in the text is shown as `\\n`."""
        self._written = time.perf_counter()
        if self._notebook is not None:
            self._notebook.say(line(text), style)
        elif not self.quiet:
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
        self._budget = self._progress.add_task("adaptation budget", total=flops, amount="", best="", left=None)

        def show() -> None:
            assert self._budget is not None
            amount = f"{meter.ledger.adaptation().evaluations}/{evaluations} evaluations"
            amount += f", {meter.spent:.2e}/{flops:.2e} FLOPs" if self._wide else ""
            self._progress.update(self._budget, completed=meter.spent, amount=amount)
            self._refresh()

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

    def keep_time(self, timekeeper: Timekeeper) -> None:
        """Show the time left of the whole run, and when it ends. Both are estimated anew after each step of a stage."""
        self._timekeeper = timekeeper
        self._run = self._progress.add_task("whole run", total=None, amount="", best="", left=lambda: timekeeper.left)
        self._estimate(said=False)

    def _estimate(self, *, said: bool) -> None:
        """Show the present estimate. The first one is also said."""
        assert self._timekeeper is not None
        assert self._run is not None
        left = self._timekeeper.left
        if left is None:
            return
        elapsed = self._timekeeper.elapsed
        self._progress.update(self._run, completed=elapsed, total=elapsed + left, amount=f"ends at {ends_at(left)}")
        if not said:
            by = f"{self._timekeeper.measured:.0f} s of work" if self._timekeeper.measured else "the calibration"
            self.say(f"{_in_words(left)}, judging by {by}: {self._timekeeper.what}")

    def _advanced(self, values: Mapping[str, float | None]) -> None:
        """Take the end of a step into account, with the values of its row of the training curve."""
        self.observers.tell(lambda each: each.advanced(values))
        if self._timekeeper is not None:
            known = self._timekeeper.left is not None
            self._timekeeper.step()
            self._estimate(said=known)
        self._refresh()

    def _refresh(self) -> None:
        """Update the notebook, or write a line of the log if one is due."""
        if self._notebook is not None:
            self._notebook.update()
        since = time.perf_counter() - self._written
        if not self._logs or not self._open or since < OFTEN:
            return
        name, stage = self._open[-1]
        if self._tenths < stage.tenths < 10 or since >= SELDOM:
            self._tenths = stage.tenths
            left = self._timekeeper.left if self._timekeeper is not None else None
            state = ", ".join(filter(None, [stage.amount, stage.score])) or "running"
            self.say(f"{name}: {state}" + ("" if left is None else f"; {_in_words(left)}"))

    def bytes(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of a download or conversion, in bytes. Callback for `bench.models`.

        It is shown until it is complete, another one begins, or a stage begins: not every one says when it is complete.
        """
        if self._transfer is None or self._transfer[0] != stage:
            self._end_transfer()
            self.note(f"{stage} ...")
            self._transfer = stage, self._progress.add_task(stage, total=total, amount="", best="")
        task = self._transfer[1]
        if task is None:
            return
        amount = f"{done / 1e6:.0f}" + (f"/{total / 1e6:.0f} MB" if total else " MB")
        self._progress.update(task, total=total, completed=done, amount=amount)
        if total is not None and done >= total:
            self._progress.remove_task(task)
            self._transfer = stage, None

    def _end_transfer(self) -> None:
        """Remove the download or conversion that is shown."""
        if self._transfer is not None and self._transfer[1] is not None:
            self._progress.remove_task(self._transfer[1])
        self._transfer = None

    @contextmanager
    def stage(self, name: str, steps: int | None = None) -> Iterator[StageDisplay]:
        """Show one phase and measure its time."""
        self._end_transfer()
        started = time.perf_counter()
        if self._timekeeper is not None:
            self._timekeeper.begin()
        task = self._progress.add_task(name, total=steps, amount="", best="")
        stage = StageDisplay(self._progress, task, steps, self._advanced)
        self._open.append((name, stage))
        self._tenths = 0
        self._refresh()
        try:
            yield stage
        finally:
            self._open.remove((name, stage))
            seconds = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self._progress.remove_task(task)
            done = [f"{stage.done} done"] if stage.done else []
            if math.isfinite(stage.best):
                self._best = stage.best
                done.append(stage.score)
                if self._budget is not None:
                    self._progress.update(self._budget, best=stage.score)
            self.say(f"{name}: {', '.join([*done, f'{seconds:.1f} s'])}", style="dim")

    def snapshot(self) -> Snapshot:
        """Return the present state of the run."""
        budget = next((task for task in self._progress.tasks if task.id == self._budget), None)
        name, stage = next(reversed(list(self._open)), ("", None))  # another thread may open or close a stage
        return Snapshot(
            stage=name,
            steps=stage.amount if stage else "",
            best=stage.best if stage and math.isfinite(stage.best) else self._best,
            spent=budget.completed / budget.total if budget and budget.total else None,
            seconds_left=self._timekeeper.left if self._timekeeper is not None else None,
        )


class StageDisplay:
    """One phase on the progress display."""

    def __init__(
        self,
        progress: Progress,
        task: TaskID,
        steps: int | None,
        advanced: Callable[[Mapping[str, float | None]], None] = lambda _: None,
    ) -> None:
        self._progress, self._task, self._steps, self._advanced = progress, task, steps, advanced
        self.done = 0
        self.best = -math.inf
        self._show()

    @property
    def tenths(self) -> int:
        """Tenths of the steps that are done; 0 if they are not counted."""
        return 10 * self.done // self._steps if self._steps else 0

    @property
    def amount(self) -> str:
        """Finished steps, such as `12/64`; empty if none is."""
        return f"{self.done}/{self._steps}" if self._steps else f"{self.done or ''}"

    @property
    def score(self) -> str:
        """Best score, such as `best 0.250`; empty without one."""
        return f"best {self.best:.3f}" if math.isfinite(self.best) else ""

    def advance(
        self, score: float | None = None, steps: int = 1, *, values: Mapping[str, float | None] | None = None
    ) -> None:
        """Count finished steps. A score updates the best score shown; observers get the values of a training step."""
        self.done += steps
        if score is not None and not math.isnan(score):
            self.best = max(self.best, score)
        self._show()
        self._advanced(values or {})

    def _show(self) -> None:
        self._progress.update(self._task, completed=self.done, amount=self.amount, best=self.score)


def _in_words(left: float) -> str:
    return f"about {duration(left)} left, until {ends_at(left)}"
