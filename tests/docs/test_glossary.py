"""The code that docs/glossary.md names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:bench|methods|reports|tasks)\.[\w.]+)`", PAGE)))


def _defined(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Return the names that statements define, each with the body of its class."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            found[statement.name] = statement.body
        elif isinstance(statement, ast.FunctionDef):
            found[statement.name] = []
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found |= {target.id: [] for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_a_module_or_is_defined_in_one(name: str) -> None:
    path, parts = ROOT, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if parts:
        path = (path / parts.pop(0)).with_suffix(".py")
        assert path.is_file()
        body = ast.parse(path.read_text()).body
        for part in parts:
            body = _defined(body)[part]


def test_each_entry_names_the_code_that_defines_it() -> None:
    entries = re.split(r"^- (?=\*\*)", PAGE, flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    assert [entry for entry in entries if not any(f"`{name}`" in entry for name in NAMES)] == []
