"""docs/methods.md lists every method with its files and their number of lines.

`python tests/docs/test_methods.py` writes the lines anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.registry import BUILT_IN

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "methods.md"
ROW = re.compile(r"^\| `([\w-]+)` \|(.*)\| ((?:`methods/[\w/.]+`(?:, )?)+) \| (\d+) \|$", re.MULTILINE)


def lines(files: str) -> int:
    """Return the number of lines of files, or of all modules of a folder, given as in the table."""
    paths = [ROOT / name for name in re.findall(r"`([^`]+)`", files)]
    modules = [module for path in paths for module in (path.glob("*.py") if path.is_dir() else [path])]
    return sum(len(module.read_text().splitlines()) for module in modules)


def page() -> str:
    """Return the page with the present number of lines."""
    return ROW.sub(lambda row: f"| `{row[1]}` |{row[2]}| {row[3]} | {lines(row[3])} |", PAGE.read_text())


def test_every_method_is_on_the_page_with_its_file() -> None:
    files = {row[1]: row[3] for row in ROW.finditer(PAGE.read_text())}
    assert list(files) == list(BUILT_IN["method"])
    for name, (target, _) in BUILT_IN["method"].items():
        module = ROOT / (target.partition(":")[0].replace(".", "/") + ".py")
        assert any(module.is_relative_to(ROOT / path) for path in re.findall(r"`([^`]+)`", files[name]))


def test_the_page_has_the_present_number_of_lines() -> None:
    assert page() == PAGE.read_text(), "files of methods changed; run: python tests/docs/test_methods.py"


if __name__ == "__main__":
    PAGE.write_text(page())
