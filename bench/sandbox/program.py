"""Programs and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError

MOST_SECONDS = 3600.0
PACKAGES = ("numpy", "pytest")
"""Packages that tests may import, if they are installed here."""

Status = Literal["passed", "failed", "timeout", "crashed", "infrastructure"]


@dataclass(frozen=True)
class Program:
    """A model-written program and its test.

    Attributes:
        code: Source text of the program. `prompt + code` is run as one text.
        test: Trusted Python source. It defines `check(candidate)`, which is called with the entry point, or test
            functions and classes of pytest or unittest, or it has assertions at top level that call the program's
            functions by name. If `check` returns text, it becomes the verdict's output.
        entry_point: Name of the function under test.
        timeout: Wall-clock limit in seconds for program and test together; None for the default of this machine.
        name: Name in reports.
        prompt: Trusted code that the program continues. If the test uses a helper that the prompt defines, it gets the
            prompt's version, even if the program redefines it.
        packages: Packages outside the standard library that the test imports, of `PACKAGES`. The program may import
            them, too.
        classes: Classes of the program that the test uses by name. The test gets handles of their objects; see
            `bench.sandbox.inside.handles`. Without such classes, a result that is no plain value fails the test.
    """

    code: str
    test: str
    entry_point: str
    timeout: float | None = None
    name: str = ""
    prompt: str = ""
    packages: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout <= MOST_SECONDS:
            raise UsageError(f"timeout: {self.timeout!r} is not above 0 and at most {MOST_SECONDS:g} seconds")
        if unknown := set(self.packages) - set(PACKAGES):
            raise UsageError(f"packages: {', '.join(sorted(unknown))}; tests may import {' and '.join(PACKAGES)}")


@dataclass(frozen=True)
class Verdict:
    """Result of a program's test.

    Attributes:
        status: `passed`; `failed` if the test failed; `timeout` if there was no verdict in time; `crashed` if the
            program's process ended before it answered; `infrastructure` if the sandbox itself failed twice, which must
            never count as a score.
        detail: Explanation for human readers. It may contain text of the program, so do not base decisions on it.
        seconds: Wall-clock time in seconds.
        level: Sandbox level of the run, one of `bench.sandbox.probe.LEVELS`.
        output: Text that `check` returned if the test passed, else None. It comes from the test, not from the program.
    """

    status: Status
    detail: str
    seconds: float
    level: str
    output: str | None = None

    @property
    def passed(self) -> bool:
        """True if the test passed."""
        return self.status == "passed"
