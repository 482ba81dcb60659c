"""Tests of the committed records and of the pages built from them."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from bench.cli.config_file import suites_beside
from bench.compute.budget import parse_budget
from bench.records.migrations import SCHEMA_VERSION
from bench.records.paths import without_paths
from bench.run.run_id import run_id
from reports.leaderboard.committed import (
    MAX_BYTES,
    changed_accuracies,
    missing_rows,
    record_path,
    stale,
    withdrawals,
)
from reports.reading import read_record

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "reports"
PATHS = sorted((FOLDER / "records").rglob("*.json"))


def git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def earlier():
    """Return the commits to compare with: HEAD, and the one where this branch left main, or HEAD's parent on main."""
    try:
        head = git("rev-parse", "HEAD").decode().strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no git history: {error}")
    found = [head]
    for main in ("origin/main", "main"):
        try:
            base = git("merge-base", "HEAD", main).decode().strip()
            found.append(base if base != head else git("rev-parse", "HEAD^").decode().strip())
            return found
        except subprocess.CalledProcessError:
            continue
    return found


def records_at(commit):
    if not git("ls-tree", commit, "reports/records"):
        return []
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, "reports/records"))) as archive:
        files = [archive.extractfile(member) for member in archive if member.isfile()]
        return [json.load(file) for file in files]


def test_there_are_records():
    assert PATHS


def test_the_pages_are_up_to_date():
    assert stale(FOLDER, suites_beside(FOLDER)) == [], "rebuild the pages: bench publish"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_record_is_consistent(path):
    record = read_record(path)
    result = record.result
    assert json.loads(path.read_bytes())["result"]["schema_version"] == SCHEMA_VERSION
    assert path.stat().st_size <= MAX_BYTES
    config = result.config
    assert path == record_path(record, FOLDER / "records")
    plain = json.loads(path.read_bytes())
    assert plain == without_paths(plain)
    if result.versions and result.content_hash and result.model:
        size = parse_budget(config.budget).identity
        content = (result.content_hash, result.model.fingerprint, size)
        assert result.id == run_id(config, result.versions, *content, version=result.identity_version)
    answered = [number for number, row in enumerate(result.rows) if row.answers_of is None]
    given = dict(zip(answered, record.verdicts, strict=True))
    for number, row in enumerate(result.rows):
        verdicts = given[number if row.answers_of is None else row.answers_of]
        accuracy = row.accuracy
        counts = (accuracy.correct, accuracy.items, accuracy.excluded)
        assert counts == (verdicts.count("1"), len(verdicts) - verdicts.count("-"), verdicts.count("-"))
        assert accuracy.accuracy == accuracy.correct / accuracy.items


def test_no_row_is_missing_and_no_accuracy_changes_without_a_reason():
    now = [json.loads(path.read_bytes()) for path in PATHS]
    withdrawn = {record for each in withdrawals(FOLDER) for record in each.records}
    for commit in earlier():
        before = records_at(commit)
        assert missing_rows(before, now, withdrawn) == []
        assert changed_accuracies(before, now) == []
