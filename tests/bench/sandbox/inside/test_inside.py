"""Code that runs in the sandbox's processes imports only the standard library."""

import ast
import sys
from pathlib import Path

import pytest

from bench.sandbox import inside

MODULES = sorted(Path(inside.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_the_standard_library(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            roots = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots = {(node.module or "").partition(".")[0]}
        else:
            continue
        assert roots <= sys.stdlib_module_names
