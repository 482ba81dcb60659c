"""The examples of docs/records.md are what the code makes of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from bench.records.migrations import to_3
from bench.records.rows import Row
from bench.records.samples import Sample
from bench.records.schema import Status

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
ROW, SAMPLE, BEFORE, AFTER = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def test_the_record_after_is_the_record_before_migrated():
    assert to_3({"result": BEFORE})["result"] == AFTER


def test_the_row_and_the_sample_have_all_fields_of_the_schema():
    assert Row.model_validate(ROW).model_dump(mode="json") == ROW
    assert Sample.model_validate(SAMPLE).model_dump(mode="json") == SAMPLE


def test_the_page_has_each_status():
    table = PAGE.partition("## Statuses")[2].partition("##")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:]  # without the heading
    assert sorted(listed) == sorted(get_args(Status))


def described(table: str) -> set[str]:
    """Return the keys in the first column of a table of the page."""
    rows = re.findall(r"^\| (`.*?`) \|", PAGE.partition(f"| key of `{table}` |")[2].partition("\n\n")[0], re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(.*?)`", row)}


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each key of a report. Reports of trials are walked like the run's own."""
    if isinstance(value, dict):
        for name, each in value.items():
            key = f"{path}.{name}".lstrip(".")
            yield key
            yield from keys(each, "" if key == "tuning.trials[].report" else key)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each, f"{path}[]")


def undescribed(found: set[str], table: str) -> set[str]:
    known = described(table)
    parents = {key[: match.start()] for key in known for match in re.finditer(r"\.|\[\]", key)}
    patterns = [re.compile(re.escape(key).replace(r"\*", r"[\w.@-]+")) for key in known | parents]
    return {key for key in found if not any(pattern.fullmatch(key) for pattern in patterns)}


def reports() -> tuple[set[str], set[str]]:
    """Return the keys of the methods' reports in the committed records, and of the artifacts' reports."""
    of_methods, of_rows = set(), set()
    for path in (Path(__file__).parents[2] / "reports" / "records").rglob("seed-*.json"):
        result = json.loads(path.read_text())["result"]
        of_methods.update(keys(result["report"]))
        of_rows.update(key for row in result["rows"] for key in keys(row.get("report", {})))
    return of_methods, of_rows


def test_each_key_of_a_report_is_described() -> None:
    of_methods, of_rows = reports()
    assert {"trajectory", "trajectory[].update_norm", "training.curve.reward"} <= of_methods
    assert undescribed(of_methods, "report") == set()
    assert undescribed(of_rows, "rows[].report") == set()
    assert undescribed({"trajectory[].unknown"}, "report") == {"trajectory[].unknown"}
