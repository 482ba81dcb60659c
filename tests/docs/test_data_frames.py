"""Run the code of docs/data-frames.md on the committed records, and compare output and columns with the page.

    python tests/docs/test_data_frames.py

writes the outputs and the tables of columns anew, as is due after a record was added to reports/records.
"""

from __future__ import annotations

import contextlib
import io
import re

import documented
import pytest

from reports.frames.columns import Table
from reports.frames.tables import TABLES

PAGE = documented.ROOT / "docs" / "data-frames.md"
COLUMNS = "## Columns\n"
OUTPUT = re.compile(r"(?<=^```python\n)(?P<code>.*?)^```\n\n```text\n.*?^```$", re.DOTALL | re.MULTILINE)
"""Block of code, and the block with its output."""


def with_outputs(page: str) -> str:
    """Return the page with what its code prints, block after block, in the folder of the repository."""
    names: dict[str, object] = {}

    def printed(found: re.Match[str]) -> str:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.chdir(documented.ROOT):
            exec(found["code"], names)
        lines = "".join(f"{line.rstrip()}\n" for line in output.getvalue().splitlines())
        return f"{found['code']}```\n\n```text\n{lines}```"

    return OUTPUT.sub(printed, page)


def with_columns(page: str) -> str:
    """Return the page with the tables of columns at its end."""
    return "\n".join([page.partition(COLUMNS)[0] + COLUMNS, *map(described, TABLES)])


def described(table: Table) -> str:
    """Return the section on a table."""
    rows = [f"| `{each.name}` | {each.kind} | {each.sentence.replace('|', chr(92) + '|')} |" for each in table.columns]
    return "\n".join([f"### {table.name}\n\n{table.sentence}\n\n| column | type | meaning |\n|---|---|---|", *rows, ""])


def test_the_page_has_the_columns() -> None:
    page = PAGE.read_text()
    assert with_columns(page) == page, "columns changed; run: python tests/docs/test_data_frames.py"


@pytest.mark.slow
def test_the_page_has_what_its_code_prints() -> None:
    pytest.importorskip("pandas")
    page = PAGE.read_text()
    assert len(OUTPUT.findall(page)) == 11
    assert with_outputs(page) == page, "outputs changed; run: python tests/docs/test_data_frames.py"


if __name__ == "__main__":
    PAGE.write_text(with_columns(with_outputs(PAGE.read_text())))
