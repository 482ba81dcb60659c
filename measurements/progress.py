"""First estimate of the time left against the time that a run took: `python -m measurements.progress`.

Each run is executed in this process with one engine. The first estimate is the one that the display says. `ratio` is
what it expected of the time from then to the end of the run, divided by what that took. `halfway` is the same for the
estimate in the middle of that time. Runs that end before an estimate are shown without one.

With --cpu all times are those of the processor in this process, which other programs on the machine hardly change.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

RUNS = {
    "corp, addition": {"method": "corp", "task": "addition", "model": "tiny-adder", "budget": "medium"},
    "grpo, addition": {"method": "grpo", "task": "addition", "model": "tiny-adder", "budget": "medium"},
    "es, modular-addition": {"method": "es", "task": "modular-addition", "model": "tiny-adder", "budget": "medium"},
    "corp, successor": {
        "method": "corp",
        "task": "successor",
        "model": "smollm2-135m",
        "budget": "512",
        "limit": 64,
    },
    "base, humaneval": {"method": "base", "task": "humaneval", "model": "smollm2-135m", "budget": "512"},
}


class Watched(ProgressDisplay):
    """Quiet display that keeps the estimates, each with the moment at which it was shown."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.estimates: list[tuple[float, float]] = []

    def _refresh(self) -> None:
        left = self.snapshot().seconds_left
        if left is not None:
            self.estimates.append((time.perf_counter(), left))


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(RUNS)), help="Runs to execute. Default: all.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--cpu", is_flag=True, help="Measure the processor's time in this process.")
def main(only: tuple[str, ...], rounds: int, cpu: bool) -> None:
    if cpu:
        time.perf_counter = time.process_time
    click.echo(
        f"{'run':<24}{'first estimate':>16}{'took':>10}{'ratio':>8}{'halfway':>9}{'known after':>13}{'whole':>9}"
    )
    for name in only or RUNS:
        for _ in range(rounds):
            click.echo(f"{name:<24}{measured(RunConfig.model_validate({'dtype': 'float32', **RUNS[name]}))}")


def measured(config: RunConfig) -> str:
    """Execute a run, and return its first estimate and what the rest of it took."""
    display = Watched()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = execute(prepare(config, Path(folder), display), display)
        ended = time.perf_counter()
    if result.status != "ok":
        return f"  {result.status}: {result.reason}"
    if not display.estimates:
        return f"{'none':>16}{'':>40}{ended - began:>8.1f}s"
    (at, first), took = display.estimates[0], ended - display.estimates[0][0]
    middle, then = next(each for each in display.estimates if each[0] - at >= took / 2)
    return (
        f"{first:>15.1f}s{took:>9.1f}s{first / took:>8.2f}{then / (ended - middle):>9.2f}{at - began:>12.1f}s"
        f"{ended - began:>8.1f}s"
    )


if __name__ == "__main__":
    main()
