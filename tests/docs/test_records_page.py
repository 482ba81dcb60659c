"""The examples of docs/records.md are what the code makes of them."""

import json
import re
from pathlib import Path
from typing import get_args

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
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)[1:]  # without the heading
    assert sorted(listed) == sorted(get_args(Status))
