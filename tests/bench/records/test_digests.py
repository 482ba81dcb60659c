"""Digests of a run directory: what was changed after the run is noticed, and a run has them."""

import json

import pytest

from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.records.digests import JOURNAL, check_digests, digests
from bench.records.journal import Journal
from bench.records.schema import Result, Timing


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "artifact" / "k=1").mkdir(parents=True)
    (tmp_path / "artifact" / "k=1" / "point.json").write_text("{}")
    (tmp_path / "samples.jsonl").write_text("{}\n")
    write(tmp_path, [({"n": 1}, {"v": 1}), ({"n": 2}, {"v": 2})])
    return tmp_path


def write(folder, entries):
    journal = Journal(folder / "journal.jsonl")
    for key, value in entries:
        if journal.recall(key) is None:
            journal.append(key, value)
    journal.close()


def result(folder):
    config = RunConfig(task="addition", model="tiny-adder")
    files = digests(folder)
    timing = Timing(total=1.0, stages={}, journal=files.pop(JOURNAL))
    parts = {"config": config, "files": files, "timing": timing}
    return Result(identity_version=3, id="1" * 64, status="failed", reason="x", **parts)


def test_a_part_that_is_missing_has_no_digest_and_passes(folder):
    made = result(folder)
    assert list(made.files) == ["samples.jsonl", "artifact"]
    (folder / "samples.jsonl").unlink()
    assert list(digests(folder)) == ["artifact", "journal.jsonl"]
    check_digests(made, folder, [*made.files, JOURNAL])


@pytest.mark.parametrize(
    ("name", "changed"),
    [("samples.jsonl", "samples.jsonl"), ("artifact", "artifact/k=1/point.json"), ("artifact", "artifact/k=1/new")],
)
def test_a_changed_part_is_refused_by_name(folder, name, changed):
    made = result(folder)
    check_digests(made, folder, [*made.files, JOURNAL])
    (folder / changed).write_text("[1]")
    with pytest.raises(BenchError, match=rf"{name}: was changed since the run ended"):
        check_digests(made, folder, (name,))


def test_a_forged_journal_is_refused_even_with_its_checksums_right(folder):
    made = result(folder)
    (folder / "journal.jsonl").unlink()
    write(folder, [({"n": 1}, {"v": 1}), ({"n": 2}, {"v": 100})])
    with pytest.raises(BenchError, match=r"journal\.jsonl: was changed"):
        check_digests(made, folder, ("journal.jsonl",))


def test_a_link_in_an_artifact_is_refused(folder, tmp_path):
    made = result(folder)
    (folder / "artifact" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BenchError, match="link: a symbolic link"):
        check_digests(made, folder, ("artifact",))
    with pytest.raises(BenchError, match="link: a symbolic link"):
        digests(folder)


def test_a_result_of_an_earlier_version_passes(folder):
    old = json.loads(result(folder).model_dump_json())
    del old["files"]
    (folder / "samples.jsonl").write_text("changed")
    check_digests(Result.model_validate(old), folder, ("samples.jsonl",))
