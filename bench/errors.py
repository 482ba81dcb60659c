"""Errors that a user can act on: each says what was given, why it does not do, and what would."""

from __future__ import annotations

from pydantic import ValidationError


class BenchError(Exception):
    """A condition the user can mend; the command line prints its message and no traceback.

    Attributes:
        exit_code: Process exit status: 1 a run failed, 2 usage, 3 refused.
    """

    exit_code = 1


class UsageError(BenchError):
    """An argument, option or configuration value that cannot be used."""

    exit_code = 2


class Refused(BenchError):
    """A request the harness declines for a stated reason, such as a sandbox too weak to judge code."""

    exit_code = 3


def usage_error(where: str, error: ValidationError) -> UsageError:
    """Turn a failed validation into an error that names each field, its value and what would be accepted."""
    parts = []
    for problem in error.errors():
        field = ".".join(map(str, problem["loc"])) or "value"
        given = "" if problem["type"] in ("extra_forbidden", "json_invalid") else f" (given {problem['input']!r})"
        parts.append(f"{field}: {problem['msg']}{given}")
    return UsageError(f"{where}: " + "; ".join(parts))
