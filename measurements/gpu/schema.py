"""Result of a section, and the report of a check as it is written to JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from bench.records.rows import Frozen


class Skipped(Exception):
    """A section cannot run here. The message says why."""


class Found(Frozen):
    """Result of a section that ran to its end.

    Attributes:
        checks: Statements that must be true, and whether they are.
        figures: Measurements; the name ends with the unit.
    """

    checks: dict[str, bool] = Field(default_factory=dict)
    figures: dict[str, FiniteFloat] = Field(default_factory=dict)


class Section(Found):
    """A section of the check.

    Attributes:
        name: Name, as `--only` takes it.
        state: `passed`: it ran, and all checks are true. `failed`: a check is false, an error was raised, or the time
            was over. `skipped`: something that it needs is not installed.
        seconds: Time that it took, with the start of its process.
        limit: Seconds after which it was ended.
        reason: Reason for a section that failed or was skipped.
        log: Last lines that a failed section printed.
    """

    name: str
    state: Literal["passed", "failed", "skipped"]
    seconds: NonNegativeFloat
    limit: PositiveFloat
    reason: str | None = None
    log: str | None = None


class Machine(Frozen):
    """Machine of the check.

    Attributes:
        device: Torch device, such as `cuda`.
        name: Name of the GPU or, without one, of the processor's architecture.
        memory: Memory of the device in bytes.
        cores: Cores of the processor.
        python: Version of Python.
        cuda: Version of CUDA that torch was built for; None for a build without it.
        packages: Installed versions; None for a package that is not installed.
    """

    device: str
    name: str
    memory: PositiveInt
    cores: PositiveInt
    python: str
    cuda: str | None
    packages: dict[str, str | None]


class Report(Frozen):
    """Result of a check.

    Attributes:
        schema_version: Version of this form.
        shape: Name of the shape of the random model.
        begun: Time of the start, UTC, ISO 8601.
        seconds: Time of all sections.
        machine: Machine of the check.
        sections: Sections that have ended, in order.
        waiting: Number of sections that have not ended; above 0 if the check was interrupted.
    """

    schema_version: Literal[1] = 1
    shape: str
    begun: str
    seconds: NonNegativeFloat
    machine: Machine
    sections: tuple[Section, ...]
    waiting: NonNegativeInt
