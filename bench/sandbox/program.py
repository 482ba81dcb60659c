"""What is judged and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError

MOST_SECONDS = 3600.0

Status = Literal["passed", "failed", "timeout", "crashed", "infrastructure"]


@dataclass(frozen=True)
class Program:
    """A program that a model wrote, with the test that decides on it.

    Attributes:
        code: The program. It runs after `prompt`, as one text.
        test: Python that defines `check(candidate)`, which is called with the entry point, or asserts at top
            level, calling functions of the program by name. It is trusted. What `check` returns, if it is text,
            becomes the verdict's output.
        entry_point: Name of the function under test.
        timeout: Wall-clock seconds for program and test together; None: the default, scaled to the machine.
        name: What to call it in a report.
        prompt: Code that the program continues. It is trusted: where the test uses a helper that the prompt
            defines, it gets the prompt's own, whatever the program made of that name.
    """

    code: str
    test: str
    entry_point: str
    timeout: float | None = None
    name: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout <= MOST_SECONDS:
            raise UsageError(f"timeout: {self.timeout!r} is not above 0 and at most {MOST_SECONDS:g} seconds")


@dataclass(frozen=True)
class Verdict:
    """What the checker said of a program.

    Attributes:
        status: `passed`; `failed`: the test did not hold; `timeout`: no verdict in time; `crashed`: the
            program's process ended before it had answered; `infrastructure`: the judge was lost, twice, which
            says nothing about the program and must never count as a score.
        detail: For the reader. Parts of it are the program's own words: decide nothing by it.
        seconds: Wall-clock time of judging.
        level: How strongly the program was confined.
        output: The text that `check` returned, where the test held; else None. It is the test's word, and as far
            from the program's as the test makes it.
    """

    status: Status
    detail: str
    seconds: float
    level: str
    output: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the test held."""
        return self.status == "passed"
