"""Check that the public API matches docs/api.md.

    python tests/docs/test_api.py

rewrites the page. Note an incompatible change in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

MODULES = ("bench", "methods.interface", "methods.testing", "methods.training", "tasks.interface")
OPERATORS = ("__add__", "__sub__", "__mul__", "__rmul__", "__neg__")
PAGE = Path(__file__).parents[2] / "docs" / "api.md"
HEAD = """# Public API

Public names for third-party methods and tasks, and for reading runs (`bench`), with their signatures. Their docstrings
explain them.
`python tests/docs/test_api.py` writes this page, and a test compares it with the code.
"""


def surface() -> str:
    """Return the page."""
    parts = [HEAD]
    for name in MODULES:
        module = importlib.import_module(name)
        parts.append(f"## {name}\n")
        for exported in sorted(module.__all__):
            parts.append("```text\n" + "\n".join(described(exported, getattr(module, exported))) + "\n```\n")
    return "\n".join(parts)


def described(name: str, value: Any) -> list[str]:
    """Return a name with its public members, including inherited ones."""
    if isinstance(value, type):
        own = [value, *(base for base in value.__mro__[1:] if _ours(base) and base not in _exported())]
        bases = [base.__name__ for base in value.__mro__[1:] if base in _exported() or not _ours(base)]
        head = f"class {name}({bases[0]})" if bases[0] != "object" else f"class {name}"
        fields = {key: line for owner in reversed(own) for key, line in _fields(owner)}
        members = {key: line for owner in reversed(own) for key, line in _members(owner, value)}
        return [head, *(f"    {line}" for line in (fields | members).values())]
    if inspect.isfunction(value):
        return [f"def {name}{_signature(value)}"]
    return [f"{name} = {value!r}"]


def _ours(base: type) -> bool:
    return base.__module__.partition(".")[0] in ("bench", "methods", "tasks")


def _exported() -> list[Any]:
    modules = [importlib.import_module(name) for name in MODULES]
    return [getattr(module, name) for module in modules for name in module.__all__]


def _fields(owner: type) -> Iterator[tuple[str, str]]:
    for key, kind in vars(owner).get("__annotations__", {}).items():
        if key.startswith("_"):
            continue
        fields, value = getattr(owner, "model_fields", {}), vars(owner).get(key)
        if key in fields:
            default = "" if fields[key].is_required() else f" = {fields[key].get_default()!r}"
        else:
            plain = key in vars(owner) and isinstance(value, str | int | float | tuple | None)
            default = f" = {value!r}" if plain else ""
        yield key, f"{key}: {getattr(kind, '__forward_arg__', kind)}{default}"


def _members(owner: type, value: type) -> Iterator[tuple[str, str]]:
    written = not (is_dataclass(owner) or getattr(owner, "_is_protocol", False))
    for key, member in vars(owner).items():
        if key.startswith("_") and not (key == "__init__" and written) and key not in OPERATORS:
            continue
        # An abstract member: adding one breaks existing subclasses.
        must = "@abstractmethod " if key in getattr(value, "__abstractmethods__", ()) else ""
        if isinstance(member, property) and member.fget is not None:
            yield key, f"{must}@property {key} -> {inspect.signature(member.fget).return_annotation}"
        elif isinstance(member, classmethod):
            yield key, f"{must}@classmethod {key}{_signature(member.__func__)}"
        elif inspect.isfunction(member):
            yield key, f"{must}def {key}{_signature(member)}"


class _Written:
    """Annotation that prints as written."""

    def __init__(self, text: Any) -> None:
        self.text = text

    def __repr__(self) -> str:
        return str(self.text)


def _signature(function: Any) -> str:
    found = inspect.signature(function)
    parameters = [
        p if p.annotation is p.empty else p.replace(annotation=_Written(p.annotation))
        for p in found.parameters.values()
    ]
    returned = found.return_annotation
    return str(inspect.Signature(parameters, return_annotation=_Written(returned)))


def test_the_page_matches_the_public_api() -> None:
    assert surface() == PAGE.read_text(), (
        "the public API changed; if this is intended, run: python tests/docs/test_api.py"
    )


def test_every_name_is_documented() -> None:
    for name in MODULES:
        module = importlib.import_module(name)
        for exported in module.__all__:
            value = getattr(module, exported)
            if isinstance(value, type) or inspect.isfunction(value):
                assert value.__doc__, f"{name}.{exported}"
                assert not value.__doc__.startswith(f"{exported}("), f"{name}.{exported} has no docstring of its own"


def test_the_example_package_imports_only_the_public_api() -> None:
    found: set[str] = set()
    for path in (Path(__file__).parents[2] / "examples").rglob("*.py"):
        found |= set(re.findall(r"^\s*(?:from|import) ((?:bench|methods|tasks|reports)[\w.]*)", path.read_text(), re.M))
    assert found
    assert found <= set(MODULES)


if __name__ == "__main__":
    PAGE.write_text(surface())
