"""Digests of a run directory: what was changed after the run is noticed."""

import pytest

from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.records.digests import ARTIFACT, JOURNAL, SAMPLES, check_digests
from bench.records.files import file_digest, folder_digest
from bench.records.journal import Journal
from bench.records.schema import Result, Timing
from bench.records.source import Artifacts

ALL = (SAMPLES, JOURNAL, ARTIFACT)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "artifact" / "k=1").mkdir(parents=True)
    (tmp_path / "artifact" / "k=1" / "point.json").write_text("{}")
    (tmp_path / SAMPLES).write_text("{}\n")
    write(tmp_path, {"v": 2})
    return tmp_path


def write(folder, value):
    journal = Journal(folder / JOURNAL)
    journal.append({"n": 1}, value)
    journal.close()


def result(folder):
    config = RunConfig(task="addition", model="tiny-adder")
    return Result(
        identity_version=3,
        id="1" * 64,
        status="failed",
        reason="x",
        config=config,
        saved=Artifacts(classes={}, sha256=folder_digest(folder / ARTIFACT)),
        samples_sha256=file_digest(folder / SAMPLES),
        timing=Timing(total=1.0, stages={}, journal=file_digest(folder / JOURNAL)),
    )


def test_a_part_that_is_missing_passes(folder):
    made = result(folder)
    check_digests(made, folder, ALL)
    (folder / SAMPLES).unlink()
    check_digests(made, folder, ALL)


@pytest.mark.parametrize(
    ("name", "changed"),
    [(SAMPLES, SAMPLES), (ARTIFACT, "artifact/k=1/point.json"), (ARTIFACT, "artifact/k=1/new")],
)
def test_a_changed_part_is_refused_by_name(folder, name, changed):
    made = result(folder)
    (folder / changed).write_text("[1]")
    with pytest.raises(BenchError, match=rf"{name}: was changed since the run ended"):
        check_digests(made, folder, [name])


def test_a_forged_journal_is_refused_even_with_its_checksums_right(folder):
    made = result(folder)
    (folder / JOURNAL).unlink()
    write(folder, {"v": 100})
    with pytest.raises(BenchError, match=r"journal\.jsonl: was changed"):
        check_digests(made, folder, [JOURNAL])


def test_a_link_in_an_artifact_is_refused(folder):
    made = result(folder)
    (folder / ARTIFACT / "link").symlink_to("/etc/passwd")
    with pytest.raises(BenchError, match="link: a symbolic link"):
        check_digests(made, folder, [ARTIFACT])


def test_a_result_of_an_earlier_version_passes(folder):
    old = result(folder).model_copy(update={"saved": None, "samples_sha256": None, "timing": None})
    (folder / SAMPLES).write_text("changed")
    check_digests(old, folder, ALL)
