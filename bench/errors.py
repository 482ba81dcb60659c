"""Errors that a user can fix. Each message says what was given, why it cannot be used, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError


class BenchError(Exception):
    """Error that the user can fix. The command line prints its message without a traceback.

    Attributes:
        exit_code: Exit status of the process: 1 if a run failed, 2 for wrong usage, 3 if refused.
    """

    exit_code = 1


class UsageError(BenchError):
    """Unusable argument, option or configuration value."""

    exit_code = 2


class Refused(BenchError):
    """Request that the harness declines, for example because the sandbox is too weak to run code."""

    exit_code = 3


def problems(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place of each problem in a pydantic error, and a text that names field, value and what is expected.

    Example text: `seed: Input should be greater than or equal to 0 (given -1)`.
    """
    for problem in error.errors():
        field = ".".join(map(str, problem["loc"])) or "value"
        given = "" if problem["type"] in ("extra_forbidden", "json_invalid") else f" (given {problem['input']!r})"
        yield problem["loc"], f"{field}: {problem['msg']}{given}"


def usage_error(where: str, error: ValidationError) -> UsageError:
    """Convert a pydantic error into one that names each field, its value and what would be accepted.

    Example message: `config.json: seed: Input should be greater than or equal to 0 (given -1)`.
    """
    return UsageError(f"{where}: " + "; ".join(text for _, text in problems(error)))
