"""Method settings of a grid: from `--set`, `--vary` and TOML tables to validated configurations.

Values from a TOML file stay what TOML made them. Only the command line gives texts, which are parsed here, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from typing import Any

from pydantic import ValidationError

from bench.errors import UsageError, problems
from bench.registry import load_method
from bench.registry import names as registered
from bench.settings import settings_of
from methods.interface import MethodConfig


@dataclass(frozen=True)
class Assignment:
    """One setting with its value, or with several values that span a grid.

    Attributes:
        key: `rank` for every method that has it, `corp.rank` for one method, `lora.rank` for a nested setting.
        values: Values; a run has one of them.
        origin: Place where it was given, for error messages, such as `--set corp.rank=4`.
    """

    key: str
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
    """Read a setting of the command line, such as `corp.rank=4`, or `corp.gate=off|both` with the separator `|`.

    A value is read as JSON, and as plain text if it is not JSON.

    Raises:
        UsageError: If the text is not of that form.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"{option} {text}: expected key=value")
    values = value.split(separator) if separator else [value]
    return Assignment(key, tuple(map(_value, values)), f"{option} {text}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def from_table(table: Mapping[str, Any], origin: str, *, several: bool, prefix: str = "") -> list[Assignment]:
    """Return the settings of a TOML table, for example of `[set.corp]`.

    Args:
        table: The table. A table within it is a method or a nested setting.
        origin: The file and the table's name, for error messages.
        several: Whether a list gives the values of a grid and not one value.
        prefix: Key of the table.

    Raises:
        UsageError: If a list of values is empty.
    """
    found = []
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict):
            found += from_table(value, origin, several=several, prefix=f"{key}.")
            continue
        values = tuple(value) if several and isinstance(value, list) else (value,)
        if not values:
            raise UsageError(f"{origin} {key} = []: expected at least one value")
        found.append(Assignment(key, values, f"{origin} {key} = {value!r}"))
    return found


def variants(methods: Sequence[str], assignments: Sequence[Assignment]) -> dict[str, list[Variant]]:
    """Return the distinct configurations of each method, one for each combination of its values.

    Settings of registered methods outside the grid are validated and then ignored, because a suite may list them.

    Raises:
        UsageError: If a method cannot be loaded, or a setting is unknown or invalid.
    """
    others = [name for name in registered("method") if name not in methods]
    chosen: dict[str, list[tuple[list[str], Assignment]]] = {name: [] for name in methods}
    for assignment in assignments:
        for name, path in _owners(assignment, methods, others):
            chosen.setdefault(name, []).append((path, assignment))
    found = {name: _combinations(name, taken) for name, taken in chosen.items()}
    return {name: found[name] for name in methods}


def _owners(assignment: Assignment, methods: Sequence[str], others: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the methods that a setting applies to, with its path in their configurations."""
    key = assignment.key
    owner = next((name for name in (*methods, *others) if key.startswith(f"{name}.")), None)
    path = key.removeprefix(f"{owner}.") if owner else key
    known = {name: [s.name for s in settings_of(load_method(name).Config)] for name in ([owner] if owner else methods)}
    found = [(name, path.split(".")) for name, names in known.items() if _is_known(path, names)]
    if not found:
        every = sorted({name for names in known.values() for name in names})
        near = get_close_matches(path, every, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(every) or 'none'}"
        reason = f"{owner} has no setting" if owner else "no method of this run has a setting"
        raise UsageError(f"{assignment.origin}: {reason} {path!r}; {hint}")
    return found


def _is_known(path: str, names: Sequence[str]) -> bool:
    """Return whether a path names a setting, or an entry of a setting that is a table without a schema of its own."""
    if path in names:
        return True
    above = max((name for name in names if path.startswith(f"{name}.")), key=len, default=None)
    return above is not None and not any(name.startswith(f"{above}.") for name in names)


def _combinations(method: str, taken: Sequence[tuple[list[str], Assignment]]) -> list[Variant]:
    found: list[Variant] = []
    for values in product(*(assignment.values for _, assignment in taken)):
        given: dict[str, Any] = {}
        for (path, _), value in zip(taken, values, strict=True):
            _put(given, path, value)
        config = _validated(method, given, taken)
        if all(config != variant.config for variant in found):
            found.append(Variant(given, config))
    return found


def _put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value in nested settings. Missing tables are created: path (lora, rank) gives `{"lora": {"rank": 8}}`."""
    for key in path[:-1]:
        inner = settings.get(key)
        settings[key] = settings = dict(inner) if isinstance(inner, dict) else {}
    settings[path[-1]] = value


def _validated(method: str, given: dict[str, Any], taken: Sequence[tuple[list[str], Assignment]]) -> MethodConfig:
    try:
        return load_method(method).Config.model_validate(given)
    except ValidationError as error:
        texts = [f"{_origin(place, taken) or 'settings'}: {method}.{text}" for place, text in problems(error)]
        raise UsageError("; ".join(texts)) from error


def _origin(place: Sequence[str | int], taken: Sequence[tuple[list[str], Assignment]]) -> str | None:
    """Return where the setting at a place of a configuration was given; of several, the last one."""
    same = [assignment.origin for path, assignment in taken if list(place[: len(path)]) == path]
    near = [assignment.origin for path, assignment in taken if list(place[:1]) == path[:1]]
    return next(iter((same or near)[::-1]), None)
