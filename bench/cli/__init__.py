"""Command line. Results go to stdout and progress to stderr; `--json` prints results as JSON.

docs/errors.md has the table of exit statuses.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from bench.cells.signals import ignore_interrupts
from bench.cli.interrupts import ARGUMENTS, Interrupted
from bench.imports import check_packages, set_environment
from bench.plain import terminal

COMMANDS = {
    "demo": "bench.cli.demo:demo",
    "run": "bench.cli.run:run",
    "resume": "bench.cli.run:resume",
    "test": "bench.cli.test:test",
    "status": "bench.cli.status:status",
    "plan": "bench.cli.plan:plan",
    "list": "bench.cli.inspect:list_",
    "show": "bench.cli.inspect:show",
    "compare": "bench.cli.compare:compare",
    "analyze": "bench.cli.analyze:analyze",
    "leaderboard": "bench.cli.leaderboard:leaderboard",
    "publish": "bench.cli.publish:publish",
    "audit": "bench.cli.audit:audit",
    "report": "bench.cli.report:report",
    "track": "bench.cli.track:track",
    "export": "bench.cli.inspect:export",
    "push": "bench.cli.push:push",
    "pull": "bench.cli.pull:pull",
    "export-data": "bench.cli.export_data:export_data",
    "prepare": "bench.cli.prepare:prepare",
    "doctor": "bench.cli.doctor:doctor",
    "score": "bench.cli.score:score",
    "sandbox": "bench.cli.score:sandbox",
    "check": "bench.cli.check:check",
}


class LazyGroup(click.Group):
    """Command group that imports a command only when it is called, so that `bench list` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all command names, in the order in which a new user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command. For an unknown name, suggest the nearest one."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}"
            raise click.UsageError(f"unknown command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Keep them as they were given, for the command to go on with after an interruption."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. If the reader of its output has gone, as `head` does, end quietly with status 141."""
        check_packages()  # before the module of a command imports them
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            return 128 + signal.SIGPIPE
        return status


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BENCH", "max_content_width": 110},
)
@click.version_option(package_name="bench-post-training", prog_name="bench")
def cli() -> None:
    """Compare LLM post-training methods at equal compute.

    A first minute on a CPU: bench demo
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Print errors that the user can fix as one line, without a traceback.

    Args:
        arguments: Arguments of the command. Default: those of this process.
    """
    from bench.errors import BenchError, os_problem

    set_environment()
    try:
        status = cli.main(arguments, standalone_mode=False)
    except BenchError as error:
        if isinstance(error, Interrupted) and arguments is None:  # Python's own end takes a second
            ignore_interrupts()
        _end(str(error), error.exit_code)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(terminal(shown.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted", 128 + signal.SIGINT)
    except OSError as error:
        if error.filename is None:
            _discard_output()
        _end(str(os_problem(error)), 1)
    sys.exit(status if isinstance(status, int) else 0)


def _end(message: str, status: int) -> NoReturn:
    click.echo(f"bench: {terminal(message)}", err=True)
    sys.exit(status)


def _discard_output() -> None:
    """Send what is left of the output nowhere. Python would otherwise try to write it again when it exits."""
    with suppress(OSError, ValueError):  # standard output is no file in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
