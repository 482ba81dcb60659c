"""Interruption of commands that execute runs: what they say, and their exit status."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from bench.cells.signals import signal_of, stopping
from bench.errors import BenchError

ARGUMENTS = "bench.arguments"
"""Key of click's context for the arguments of this process."""


class Interrupted(BenchError):
    """Interruption by Ctrl-C or a signal. The message ends with the command that goes on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def interruptible(command: Callable[[KeyboardInterrupt], str]) -> Iterator[None]:
    """Turn Ctrl-C, and the signals of batch systems, within a block into an error that says how to go on.

    See `bench.cells.signals.stopping`.

    Args:
        command: Function that returns the command to go on with, given what was raised.

    Raises:
        Interrupted: If the block is interrupted.
    """
    try:
        with stopping():
            yield
    except KeyboardInterrupt as stop:
        number = signal_of(stop)
        how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        message = f"{how}; all finished work is saved. Go on with:\n  {command(stop)}"
        raise Interrupted(message, 128 + number) from stop


def same_command() -> str:
    """Return the command line of this process, quoted for a shell."""
    return shlex.join(["bench", *click.get_current_context().meta.get(ARGUMENTS, ())])


def resume_command(folder: Path) -> str:
    """Return the command that continues a run, with those options of this command that it takes."""
    context = click.get_current_context()
    group = context.find_root().command
    resume = group.get_command(context, "resume") if isinstance(group, click.Group) else None
    given = []
    for option in resume.params if resume else ():
        name = option.name or ""
        if isinstance(option, click.Option) and context.get_parameter_source(name) not in (
            None,
            ParameterSource.DEFAULT,
        ):
            value = context.params[name]
            if option.multiple:
                given += [word for each in value for word in (option.opts[0], str(each))]
                continue
            given += [option.opts[0]] if option.is_flag else [option.opts[0], "auto" if value is None else str(value)]
    return shlex.join(["bench", "resume", str(folder), *given])
