"""`bench track`: log finished runs to trackers; and the option `--track` of commands that execute runs."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import RUN, json_option, output_json, say
from bench.cli.outputs import TrackedOutput, TrackedOutputs


class TrackerName(click.ParamType):
    """Name of a tracker that is installed."""

    name = "tracker"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        from bench.track.interface import check

        check(value, param.opts[0] if param else "--track")
        return value


track_option = click.option(
    "--track",
    multiple=True,
    type=TrackerName(),
    metavar="TRACKER",
    help="Log curves and results while the run goes on: wandb, mlflow, trackio, tensorboard, or your own as "
    "package.module:Class. It cannot change or stop the run. Repeatable.",
)


LIMIT = 600.0
"""Seconds that a tracker may take for one run."""


@click.command(epilog="\b\nExample:\n  bench track runs/addition/tiny-adder/es/small/seed-0-1a2b3c4d --to tensorboard")
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option(
    "--to",
    "trackers",
    multiple=True,
    required=True,
    type=TrackerName(),
    metavar="TRACKER",
    help="wandb, mlflow, trackio, tensorboard, or your own as package.module:Class. Repeatable.",
)
@json_option
def track(runs: tuple[Path, ...], trackers: tuple[str, ...], as_json: bool) -> int:
    """Log finished runs to trackers.

    RUNS are run directories. A run gets the curves and final values that `bench run --track` logs. What a tracker
    already has of a run is not logged again. A run that a tracker fails to take is named, and the exit status is
    then 1.
    """
    found = tuple(_tracked(folder, name) for folder in runs for name in trackers)
    if as_json:
        output_json(TrackedOutputs(tracked=found))
    else:
        for each in found:
            if each.error is None:
                say(f"{each.run}: {each.tracker}: {each.where}")
            else:
                say(f"{each.run}: tracker {each.tracker} failed: {each.error}", err=True)
    return 1 if any(each.error for each in found) else 0


def _tracked(folder: Path, name: str) -> TrackedOutput:
    from bench.track.process import TrackerProcess

    with TrackerProcess(name) as process:
        process.send_last({"finished": str(folder.absolute())})
        process.wait(LIMIT)
    return TrackedOutput(run=str(folder), tracker=name, where=process.where, error=process.error)
