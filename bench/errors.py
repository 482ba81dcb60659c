"""Errors that a user can fix. Each message says what was given, why it cannot be used, and what to do."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.amounts import counted
from bench.settings import FORMS, settings_of

RETIRED = "retired"
"""Type of a pydantic error about a setting of an earlier version, with its name and value as context."""
LONGEST_VALUE = 80
"""Number of characters after which a value is cut off in a message."""


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


_REMEDIES = {
    errno.EACCES: "give this user access to it",
    errno.EPERM: "give this user access to it",
    errno.EROFS: "make it writable",
    errno.EEXIST: "move the file of this name away, because a folder is expected",
    errno.EISDIR: "move the folder of this name away, because a file is expected",
    errno.ENOTDIR: "move the file of this name away, because a folder is expected",
    errno.ENOENT: "restore it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free the disk",
}
"""What to do about an error of the operating system, by its number."""


def os_reason(error: OSError, other: str = "file") -> str:
    """Return the reason of an operating system's error with a remedy.

    Example: `Permission denied; give this user access to it, or choose another file`.

    Args:
        error: The error.
        other: What the user may choose in place of the file, such as `--output`.
    """
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}; {_REMEDIES.get(_number(error), 'check it')}, or choose another {other}"


def _number(error: OSError) -> int:
    """Return the number of an error, also of one that another language raised: `I/O error: ... (os error 28)`."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno or (int(told[1]) if told else 0)


def os_problem(error: OSError) -> BenchError:
    """Convert an operating system's error into one that names the file, the reason and the remedy.

    Example message: `/runs/x/config.json: Permission denied; give this user access to it, or choose another file`. An
    error without a file is one of standard output.
    """
    files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    return BenchError(f"{' to '.join(files) or 'standard output'}: {os_reason(error)}")


def shown(value: object) -> str:
    """Return a value as a message shows it: as JSON, cut off if it is long. Examples: `true`, `["a", 1]`."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys that are not text, or a list that contains itself
        text = repr(value)
    except RecursionError:  # nested too deeply for repr too
        text = f"a nested {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def problems(
    error: ValidationError, model: type[BaseModel] | None = None
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place of each problem in a pydantic error, and a text that names field, value and what is expected.

    Example texts: `seed: expected 0 or more (given -1)`,
    `sead: unknown field (given 1); did you mean 'seed'?`.

    Args:
        error: The error.
        model: Model that was validated, whose fields are suggested for an unknown one.
    """
    for problem in error.errors():
        place, kind, value = problem["loc"], problem["type"], problem["input"]
        field = ".".join(map(str, place)) or "value"
        if kind == RETIRED:  # of the whole configuration; its own place is that of the setting
            name = str(problem["ctx"]["name"])
            yield (*place, name), f"{name}: {problem['msg']} (given {shown(problem['ctx']['value'])})"
        elif kind == "extra_forbidden":
            yield place, f"{field}: unknown field (given {shown(value)}){_hint(place, model)}"
        else:
            yield (
                place,
                f"{field}: {in_words(problem)}" + ("" if _is_whole(kind, value) else f" (given {shown(value)})"),
            )


_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table of keys and values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a table of keys and values",
    "string_type": "text",
    "tuple_type": "a list",
}
"""What is expected where pydantic finds a problem, by the problem's type. The braces name values of its context."""
_SIZES = {"string_too_short": "character", "string_too_long": "character", "too_short": "entry", "too_long": "entry"}
_PLURALS = {"entry": "entries"}


def in_words(problem: Mapping[str, Any]) -> str:
    """Return what a problem of pydantic says is expected, in words: `expected 0 or more`, `expected a whole number`.

    Args:
        problem: One of the `errors()` of a ValidationError.
    """
    kind = str(problem["type"])
    context = {k: f"{v:g}" if isinstance(v, float) else v for k, v in problem.get("ctx", {}).items()}
    if kind == "missing":
        return "missing"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return f"expected {FORMS.get(pattern) or f'text that matches {pattern}'}"
    if kind == "greater_than" and isinstance(problem["ctx"]["gt"], int):  # of a whole number
        return f"expected {problem['ctx']['gt'] + 1} or more"
    if kind in _SIZES:
        bound = "max" if kind.endswith("long") else "min"
        size = counted(int(context[f"{bound}_length"]), _SIZES[kind], _PLURALS.get(_SIZES[kind]))
        return f"expected at {'most' if bound == 'max' else 'least'} {size}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind].format_map(context)}"
    return str(problem["msg"]).replace("Input should be", "expected").removeprefix("Value error, ")


def _is_whole(kind: str, value: Any) -> bool:
    """Return whether the value of a problem is all that was given, and so does not show what is wrong."""
    return kind in ("missing", "json_invalid") or (kind in ("value_error", "assertion_error") and _is_object(value))


def _is_object(value: Any) -> bool:
    return isinstance(value, (dict, BaseModel))


def _hint(place: tuple[str | int, ...], model: type[BaseModel] | None) -> str:
    """Suggest a field in place of an unknown one. Empty if the fields at that place are not known."""
    if model is None:
        return ""
    above = [part for part in place[:-1] if isinstance(part, str)]
    paths = [setting.name.split(".") for setting in settings_of(model)]
    known = [path[-1] for path in paths if path[:-1] == above]
    near = get_close_matches(str(place[-1]), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def usage_error(where: str, error: ValidationError, model: type[BaseModel] | None = None) -> UsageError:
    """Convert a pydantic error into one that names each field, its value and what would be accepted.

    Example message: `config.json: seed: expected 0 or more (given -1)`.

    Args:
        where: Place of the values, such as a file.
        error: The error.
        model: Model that was validated, whose fields are suggested for an unknown one.
    """
    return UsageError(f"{where}: " + "; ".join(text for _, text in problems(error, model)))
