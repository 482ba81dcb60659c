"""Method settings of a grid: from `--set`, `--vary` and TOML tables to validated configurations.

Values from a TOML file stay what TOML made them. Only the command line gives texts, which are parsed here, once.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from typing import Any

from pydantic import ValidationError

from bench.amounts import number
from bench.errors import UsageError, problems, shown
from bench.registry import load_method
from bench.registry import names as registered
from bench.settings import put, settings_of
from methods.interface import MethodConfig


@dataclass(frozen=True)
class Assignment:
    """One setting with its value, or with several values that span a grid.

    Attributes:
        path: Keys down to the setting: `("rank",)` for every method that has it, `("corp", "rank")` for one method,
            `("lora", "rank")` for a nested setting.
        values: Values; a run has one of them.
        origin: Place where it was given, for error messages, such as `--set corp.rank=4`.
    """

    path: tuple[str, ...]
    values: tuple[Any, ...]
    origin: str


@dataclass(frozen=True)
class Variant:
    """One configuration of a method.

    Attributes:
        given: Settings as given, without defaults.
        config: The validated configuration.
    """

    given: dict[str, Any]
    config: MethodConfig


def parse(text: str, option: str, separator: str | None = None) -> Assignment:
    """Read a setting of the command line, such as `corp.rank=4`, or `corp.noise=iid|tied` with the separator `|`.

    A value is read as JSON, and as plain text if it is not JSON.

    Raises:
        UsageError: If the text is not of that form.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        form = "KEY=V1|V2|... in quotes, such as 'corp.rank=4|8'" if separator else "KEY=VALUE, such as corp.rank=4"
        raise UsageError(f"{option} {shlex.quote(text)}: expected {form}; `bench list methods -v` names the settings")
    values = value.split(separator) if separator else [value]
    return Assignment(tuple(key.split(".")), tuple(map(_value, values)), f"{option} {text}")


class _Plain(str):
    """Text of the command line that is not JSON. Where a number is expected, it may be one such as `64k`."""


def _value(text: str) -> Any:
    try:
        found = json.loads(re.sub(r"^(-?)\.(?=\d)", r"\g<1>0.", text))  # JSON has no number .5
    except json.JSONDecodeError:
        return _Plain(text)
    exponent = isinstance(found, float) and "e" in text.lower()  # 1e5 is a whole number, and 2.0 is not
    return int(found) if exponent and found.is_integer() else found


def from_table(
    table: Mapping[str, Any], origin: str, *, several: bool, above: tuple[str, ...] = ()
) -> list[Assignment]:
    """Return the settings of a TOML table, for example of `[set.corp]`.

    Args:
        table: The table. A table within it is a method or a nested setting; an empty one is a value.
        origin: The file and the table's name, for error messages.
        several: Whether a list gives the values of a grid and not one value.
        above: Keys down to the table.

    Raises:
        UsageError: If a list of values is empty.
    """
    found = []
    for name, value in table.items():
        path = (*above, name)
        if isinstance(value, dict) and value:
            found += from_table(value, origin, several=several, above=path)
            continue
        where = f"{origin} {_key(path)} = {shown(value)}"
        values = tuple(value) if several and isinstance(value, list) else (value,)
        if not values:
            raise UsageError(f"{where}: expected at least one value")
        found.append(Assignment(path, values, where))
    return found


def _key(path: Sequence[str]) -> str:
    """Return a path as TOML writes it: `lora.rank`, or `options."a.b"` for a key with a dot of its own."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else shown(part) for part in path)


def variants(methods: Sequence[str], assignments: Sequence[Assignment]) -> dict[str, list[Variant]]:
    """Return the distinct configurations of each method, one for each combination of its values.

    Settings of registered methods outside the grid are validated and then ignored, because a suite may list them.

    Raises:
        UsageError: If a method cannot be loaded, or a setting is unknown or invalid.
    """
    others = [name for name in registered("method") if name not in methods]
    chosen: dict[str, list[tuple[tuple[str, ...], Assignment]]] = {name: [] for name in methods}
    for assignment in assignments:
        _require_json(assignment)
        for name, path in _owners(assignment, methods, others):
            chosen.setdefault(name, []).append((path, assignment))
    found = {name: _combinations(name, taken) for name, taken in chosen.items()}
    return {name: found[name] for name in methods}


def _require_json(assignment: Assignment) -> None:
    """Check that records can hold the values, which they do as JSON. TOML also has dates, times, and `nan`."""
    try:
        json.dumps(assignment.values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{assignment.origin}: JSON has no such value; expected text, a finite number, true or false, a list or a "
            "table (write a date as text, in quotes)"
        ) from error


def _owners(assignment: Assignment, methods: Sequence[str], others: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the methods that a setting applies to, with its path in their configurations."""
    owner, path = _split(assignment.path, [*methods, *others])
    if owner and not path and assignment.values == ({},):
        return []  # the table of a method, such as [set.corp], without any setting
    if owner and not path:
        owner, path = None, assignment.path
    known = {name: _paths(name) for name in ([owner] if owner else methods)}
    found = [(name, path) for name, paths in known.items() if _is_known(path, paths)]
    if not found:
        key, every = _key(path), sorted({_key(each) for paths in known.values() for each in paths})
        if not owner and len(path) > 1:  # the method may be misspelt
            every += [f"{name}.{_key(each)}" for name, paths in known.items() for each in paths]
        near = get_close_matches(key, every, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(every) or 'none'}"
        reason = f"{owner} has no setting" if owner else "no method of this run has a setting"
        raise UsageError(f"{assignment.origin}: {reason} {key!r}; {hint}")
    return found


def _split(path: tuple[str, ...], methods: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Split a path into the method that it begins with, or None, and the rest. The name of a method may have dots."""
    for length in range(1, len(path) + 1):
        if (name := ".".join(path[:length])) in methods:
            return name, path[length:]
    return None, path


def _paths(method: str) -> list[tuple[str, ...]]:
    """Return the settings of a method. Retired ones are among them, so that its configuration says what to do."""
    config = load_method(method).Config
    return [*(tuple(setting.name.split(".")) for setting in settings_of(config)), *((name,) for name in config.retired)]


def _is_known(path: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> bool:
    """Return whether a path is a setting, or an entry of a setting that is a table without a schema of its own."""
    if path in paths:
        return True
    above = max((each for each in paths if path[: len(each)] == each), key=len, default=None)
    return above is not None and not any(len(each) > len(above) and each[: len(above)] == above for each in paths)


def _combinations(method: str, taken: Sequence[tuple[tuple[str, ...], Assignment]]) -> list[Variant]:
    found: list[Variant] = []
    for values in product(*(assignment.values for _, assignment in taken)):
        given: dict[str, Any] = {}
        for (path, _), value in zip(taken, values, strict=True):
            put(given, path, value)
        config = _validated(method, given, taken)
        if all(config != variant.config for variant in found):
            found.append(Variant(given, config))
    return found


def is_given(settings: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Return whether nested settings have a value at a path, or one that decides it, such as `lora = null`."""
    inner: Any = settings
    for key in path:
        if not isinstance(inner, Mapping):
            return True
        if key not in inner:
            return False
        inner = inner[key]
    return True


def _validated(method: str, given: dict[str, Any], taken: Sequence[tuple[tuple[str, ...], Assignment]]) -> MethodConfig:
    config = load_method(method).Config
    try:
        return config.model_validate(given)
    except ValidationError as error:
        if _read_numbers(given, error):
            return _validated(method, given, taken)
        hint = _separator_hint(taken)
        texts = [f"{_origin(place, taken) or 'settings'}: {method}.{text}" for place, text in problems(error, config)]
        raise UsageError("; ".join(texts) + hint) from error


def _separator_hint(taken: Sequence[tuple[tuple[str, ...], Assignment]]) -> str:
    """Say how several values are separated, if one of a variation has commas."""
    values = [value for _, each in taken if each.origin.startswith("--vary") for value in each.values]
    if any(isinstance(value, _Plain) and "," in value for value in values):
        return "; values of --vary are separated by |, in quotes, such as 'rank=4|8'"
    return ""


def _read_numbers(given: dict[str, Any], error: ValidationError) -> bool:
    """Replace texts of the command line by the numbers that they give, where numbers were expected.

    Returns:
        Whether there was such a text.
    """
    found = False
    for problem in error.errors():
        value, place = problem["input"], [str(key) for key in problem["loc"]]
        expected = problem["type"] in ("int_type", "float_type")
        if expected and isinstance(value, _Plain) and is_given(given, place) and (read := number(value)) is not None:
            put(given, place, read)
            found = True
    return found


def _origin(place: tuple[str | int, ...], taken: Sequence[tuple[tuple[str, ...], Assignment]]) -> str | None:
    """Return where the setting at a place of a configuration was given; of several, the last one."""
    same = [assignment.origin for path, assignment in taken if place[: len(path)] == path]
    near = [assignment.origin for path, assignment in taken if place[:1] == path[:1]]
    return next(iter((same or near)[::-1]), None)
