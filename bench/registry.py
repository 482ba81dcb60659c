"""Finding methods and tasks by name without importing them.

Built-in names map to "module:attribute". Third parties add theirs through the entry-point groups `bench.methods` and
`bench.tasks`, or are named in full as `package.module:Class`.
"""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, TypeVar

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from methods.interface import Method
    from tasks.interface import Task

T = TypeVar("T")
Kind = Literal["method", "task"]

BUILT_IN: dict[Kind, dict[str, tuple[str, str]]] = {
    "method": {
        "base": ("methods.base:Base", "the base model, unchanged"),
        "corp": ("methods.corp.method:Corp", "consolidate random weight perturbations into one model, behind a gate"),
    },
    "task": {
        "addition": ("tasks.addition:Addition", "sums below 200, for tiny-adder"),
        "humaneval": ("tasks.humaneval:HumanEval", "Python functions judged by their unit tests"),
    },
}


@cache
def names(kind: Kind) -> dict[str, tuple[str, str]]:
    """Return every registered name with its target and a one-line description.

    Raises:
        BenchError: If a third party claims a name that is taken.
    """
    found = dict(BUILT_IN[kind])
    for point in entry_points(group=f"bench.{kind}s"):
        if point.name in found:
            raise BenchError(f"{kind} {point.name!r} is registered twice: by {found[point.name][0]} and {point.value}")
        found[point.name] = (point.value, f"from {point.dist.name if point.dist else point.module}")
    return found


def check(kind: Kind, name: str) -> None:
    """Raise unless the name is registered or has the form package.module:Class.

    Raises:
        UsageError: With the nearest registered name.
    """
    known = names(kind)
    module, colon, attribute = name.partition(":")
    if name in known or (colon and all(part.isidentifier() for part in [*module.split("."), attribute])):
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
    raise UsageError(f"--{kind} {name}: unknown; {hint}")


def _load(kind: Kind, name: str) -> object:
    check(kind, name)
    target = names(kind)[name][0] if name in names(kind) else name
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # somebody's module may fail in any way when it is imported
        raise UsageError(f"--{kind} {name}: cannot load {target}: {type(error).__name__}: {error}") from error


def load_method(name: str) -> type[Method]:
    """Import a method class by name."""
    from methods.interface import Method

    return _subclass(_load("method", name), Method, f"--method {name}")  # type: ignore[type-abstract]


def load_task(name: str) -> Task:
    """Import a task by name and make one."""
    from tasks.interface import Task

    return _subclass(_load("task", name), Task, f"--task {name}")()  # type: ignore[type-abstract]


def _subclass(found: object, base: type[T], what: str) -> type[T]:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{what}: {found!r} is not a {base.__name__}")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise UsageError(f"{what}: {found!r} does not define {', '.join(missing)}")
    return found
