"""Interface of trackers, and how to find one by name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.errors import Refused, UsageError

Scalar = str | int | float | bool | None

STEP = "spent/base_evaluations"
"""Key of the step in curves, for trackers that plot over a value and not over a step."""
SPENT = "spent/flops"
"""Value of each point of the budget's curve, which only grows."""
TRAINED = "training/flops"
"""Value of each point of the training curve, which only grows."""


class Point(NamedTuple):
    """Point of one or several curves.

    Attributes:
        step: FLOPs billed to the budget so far, in evaluations of the base model. It compares across methods.
        values: Values by key, such as `{"training/reward": 0.4, "training/step": 3.0}`.
    """

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """Facts about a run that a tracker keeps.

    Attributes:
        id: Run id, by which a tracker finds the run again.
        name: Short name, such as `grpo addition tiny-adder 400 seed-0 a13d8e2d`.
        config: Configuration, with the keys of nested values joined by dots.
        tags: Method, task, model, budget and seed.
    """

    id: str
    name: str
    config: Mapping[str, Scalar]
    tags: Mapping[str, str]

    @property
    def project(self) -> str:
        """Default name of the project or experiment."""
        return "bench"


class Tracker(Protocol):
    """Tracker of one run. Any method may raise; the run is not affected."""

    def begin(self, run: TrackedRun) -> Mapping[str, float]:
        """Open the run in the tracker, or continue it there.

        Returns:
            The last values of `SPENT` and `TRAINED` that the tracker has of this run. Later points alone are logged.
        """

    def log(self, points: Sequence[Point]) -> None:
        """Log points, in the order in which they were measured."""

    def end(self, step: int, final: Mapping[str, Scalar], *, status: str) -> str:
        """Log the result, and close the run in the tracker.

        Args:
            step: Step of the last point.
            final: Values of the result by key, see `bench.track.result.final`; empty if the run was interrupted.
            status: Status of the run, or `interrupted`.

        Returns:
            Where the user finds it: an address, a path or a command.
        """


TRACKERS = {
    "wandb": ("bench.track.wandb:Wandb", ("wandb",)),
    "mlflow": ("bench.track.mlflow:Mlflow", ("mlflow",)),
    "trackio": ("bench.track.trackio:Trackio", ("trackio",)),
    "tensorboard": ("bench.track.tensorboard:TensorBoard", ("tensorboard",)),
}
"""Class of each tracker, as module and name, and the packages that it imports. The extras have the same names."""


def check(name: str, option: str) -> None:
    """Check that a tracker is known and its packages are installed. Nothing is imported.

    Args:
        name: Name of a tracker, or a class as package.module:Class.
        option: Option that named it, for messages.

    Raises:
        UsageError: If the name is unknown.
        Refused: If a package is missing.
    """
    if name not in TRACKERS:
        module, _, attribute = name.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), attribute]):
            known = ", ".join(TRACKERS)
            raise UsageError(f"{option} {name}: unknown; expected {known}, or a class as package.module:Class")
        return
    for package in TRACKERS[name][1]:
        if find_spec(package) is None:
            raise Refused(f"{option} {name} needs {package}: pip install -c requirements/cpu.txt '.[{name}]'")


def load(name: str) -> Tracker:
    """Import a tracker by name and create it."""
    module, _, attribute = TRACKERS.get(name, (name, ()))[0].partition(":")
    found: Tracker = getattr(importlib.import_module(module), attribute)()
    return found


def setting(variable: str, default: str) -> str:
    """Return an environment variable of a tracker; the default if it is not set or empty."""
    return os.environ.get(variable) or default


def short(path: str | Path) -> str:
    """Return a path relative to the working directory, if it lies in it."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
