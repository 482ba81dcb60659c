"""Options that say where the cells of a grid are executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.cli.options import number_from
from bench.engines.placement import Engines
from bench.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.cells.batch import Batch
    from bench.cells.loop import Jobs

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True)
class CellsOn:
    """Place where the cells of a grid are executed, checked before the first one begins.

    Attributes:
        place: `local`, `slurm` or `ray`.
        at_once: Number of cells that run at the same time at most; None for the place's own number.
        time_limit: Time limit of a job of Slurm in minutes.
        slurm: Options of sbatch by name.
        address: Address of the Ray cluster; None starts one on this machine.
        count: Number of engines of each cell, which take a core each on Ray; None for `auto`.
        gpu: Whether the cells may use GPUs.
    """

    place: str
    at_once: int | None
    time_limit: int | None
    slurm: dict[str, str]
    address: str | None
    count: int | None
    gpu: bool

    @property
    def engines(self) -> Engines:
        """Engines of each cell, in its own process or in processes beside it."""
        return Engines(self.count or 1 if self.place == "ray" else self.count)

    def jobs(self, batch: Batch) -> Jobs:
        """Return the place, ready to take cells.

        Args:
            batch: Folder of the grid's jobs.
        """
        if self.place == "ray":
            from bench.cells.ray_jobs import RayJobs

            return RayJobs(self.address, self.at_once, self.count or 1, gpu=self.gpu)
        from bench.cells.submitit_jobs import LocalJobs, SlurmJobs

        if self.place == "slurm":
            assert self.time_limit is not None
            return SlurmJobs(batch, self.at_once, self.time_limit, self.slurm)
        return LocalJobs(batch, self.at_once, _gpus() if self.gpu else 0)


def cells_options(command: F) -> F:
    """Add the options for the place where the cells of a grid are executed. They change no result."""
    for option in reversed(
        (
            click.option(
                "--cells-on",
                type=click.Choice(["local", "slurm", "ray"]),
                help="Execute the runs of the grid as jobs: in child processes of this machine, on Slurm, or on Ray. "
                "Default: one after the other in this process.",
            ),
            click.option(
                "--at-once",
                type=number_from(1),
                metavar="COUNT",
                help="Number of jobs of --cells-on that run at the same time at most. Default: one per GPU or core for "
                "local, which share the cores; else as many as there is room for.",
            ),
            click.option(
                "--time-limit",
                type=number_from(1),
                metavar="MINUTES",
                help="Time limit of a job of --cells-on slurm. A job that reaches it is queued again, and goes on.",
            ),
            click.option(
                "--slurm",
                multiple=True,
                metavar="KEY=VALUE",
                help="Option of sbatch for --cells-on slurm, such as `partition=gpu`. Repeatable.",
            ),
        )
    ):
        command = option(command)
    return command


def read_cells_on(
    place: str | None,
    at_once: int | None,
    time_limit: int | None,
    slurm: Sequence[str],
    engines: int | None,
    address: str | None,
    device: str,
    launch: str | None,
) -> CellsOn | None:
    """Check the options of `cells_options`. Return None if the cells are executed in this process.

    Args:
        place: `local`, `slurm` or `ray`; None for this process.
        at_once: Number of cells that run at the same time at most.
        time_limit: Time limit of a job of Slurm in minutes.
        slurm: Options of sbatch, such as `partition=gpu`.
        engines: Number of engines of each cell; None for `auto`.
        address: Address of a Ray cluster.
        device: Device of the runs, as given.
        launch: Program that starts several training processes, as given.

    Raises:
        UsageError: If an option belongs to another place, is missing, or needs more than a cell gets there.
        Refused: If a library or a program is missing.
    """
    given = {"--at-once": at_once, "--time-limit": time_limit, "--slurm": " ".join(slurm) or None}
    belongs = {"--at-once": ("local", "slurm", "ray"), "--time-limit": ("slurm",), "--slurm": ("slurm",)}
    for option, value in given.items():
        if value is not None and place not in belongs[option]:
            names = " or ".join(belongs[option])
            raise UsageError(f"{option} {value}: belongs to --cells-on {names}, which was not given")
    if place is None:
        return None
    if address is not None and place != "ray":
        raise UsageError(
            f"--ray-address {address}: the engines of several jobs would compete for the cluster; leave it out, or "
            "execute the cells themselves there with --cells-on ray"
        )
    if launch is not None and place != "slurm" and device != "cpu":
        raise UsageError(
            f"--launch {launch}: a cell of --cells-on {place} gets one GPU at most, and its training processes need "
            "one each; give --device cpu to train on the CPU, leave out --cells-on, or use --cells-on slurm with a GPU "
            "for each process"
        )
    if place == "ray":
        if find_spec("ray") is None:
            raise Refused("--cells-on ray needs ray: pip install -c requirements/cpu.txt '.[ray]'")
    else:
        from bench.cells.submitit_jobs import require_slurm, require_submitit

        require_submitit(f"--cells-on {place}")
        if place == "slurm":
            require_slurm()
            if time_limit is None:
                raise UsageError("--cells-on slurm needs --time-limit MINUTES; a job that reaches it is queued again")
    from bench.cells.submitit_jobs import sbatch_options

    return CellsOn(place, at_once, time_limit, sbatch_options(slurm), address, engines, device != "cpu")


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
