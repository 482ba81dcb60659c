"""Run directories and record files that were changed in one place, through every command that reads them.

Each is refused or left out with the file's name, and without a traceback; the board's folder stays as it was.
"""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.records.digests import items_digest
from bench.records.files import file_digest
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from reports.leaderboard.committed import compact
from reports.reading import read_record


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    config = RunConfig(method="randopt", task="addition", model="tiny-adder", budget="100", limit=12)
    prepared = prepare(config, tmp_path_factory.mktemp("runs"), ProgressDisplay(quiet=True))
    execute(prepared, ProgressDisplay(quiet=True))
    return prepared.folder


def lines(run):
    return [json.loads(line) for line in (run / "samples.jsonl").read_bytes().split(b"\n") if line]


def write(run, samples, *, resealed=True):
    """Write samples, and their digest to the result unless the forger forgot it."""
    (run / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    if resealed:
        change(run, lambda result: result.update(samples_sha256=file_digest(run / "samples.jsonl")))


def change(run, edit):
    result = json.loads((run / "result.json").read_bytes())
    edit(result)
    (run / "result.json").write_text(json.dumps(result))


def doubled(run):
    samples = lines(run)
    write(run, [*samples, samples[0]])


def doubled_in_place(run):
    samples = lines(run)
    samples[1]["id"] = samples[0]["id"]
    write(run, samples)


def renamed(run):
    samples = lines(run)
    first = samples[0]["id"]
    write(run, [sample | {"id": "1+1"} if sample["id"] == first else sample for sample in samples])


def renamed_in_one_row(run):
    samples = lines(run)
    samples[-1]["id"] = "1+1"
    write(run, samples)


def missing(run):
    first = lines(run)[0]["id"]
    write(run, [sample for sample in lines(run) if sample["id"] != first])


def missing_in_one_row(run):
    write(run, lines(run)[:-1])


def reordered(run):
    write(run, sorted(lines(run), key=lambda sample: (sample["row"], sample["id"][::-1])))


def judged_right(run):
    write(run, [sample | {"correct": True} for sample in lines(run)])


def judged_by_text(run):
    write(run, [sample | {"correct": "yes"} for sample in lines(run)])


def another_row(run):
    samples = lines(run)
    samples[-1]["row"] = 99
    write(run, samples)


def another_text(run):
    samples = lines(run)
    samples[0]["text"] += "0"
    write(run, samples, resealed=False)


def not_json(run):
    with (run / "samples.jsonl").open("a") as file:
        file.write("{\n")


def no_samples(run):
    (run / "samples.jsonl").unlink()


def longer_journal(run):
    with (run / "journal.jsonl").open("a") as file:
        file.write("{}\n")


def schema_99(run):
    change(run, lambda result: result.update(schema_version=99))


def id_outside(run):
    change(run, lambda result: result.update(id="../../x"))


def another_seed(run):
    change(run, lambda result: result["config"].update(seed=7))


def more_budget(run):
    change(run, lambda result: result["budget"].update(evaluations=200))


def result_is_a_list(run):
    (run / "result.json").write_text("[]")


def result_is_a_folder(run):
    (run / "result.json").unlink()
    (run / "result.json").mkdir()


FORGERIES = [
    doubled,
    doubled_in_place,
    renamed_in_one_row,
    missing,
    missing_in_one_row,
    judged_right,
    judged_by_text,
    another_row,
    another_text,
    not_json,
    no_samples,
    longer_journal,
    schema_99,
    id_outside,
    another_seed,
    more_budget,
    result_is_a_list,
    result_is_a_folder,
]
IN_TASK = [renamed, reordered]
"""Forgeries that agree with themselves. The task's data show them, which `publish` and `audit` read."""


@pytest.fixture
def run(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "runs" / original.name))


def invoke(*arguments):
    """Run a command. Return its exit status, and what it told the user."""
    outcome = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if isinstance(outcome.exception, BenchError):
        return outcome.exception.exit_code, str(outcome.exception)
    assert outcome.exception is None, outcome.exception
    return outcome.return_value or 0, outcome.output


def commands(path, tmp_path):
    yield "publish", path, "--into", tmp_path / "board"
    yield "report", path, "-o", tmp_path / "site"
    yield "leaderboard", path
    yield "audit", path
    if path.is_dir():
        yield "compare", path, path, "--row", "k=1", "--row", "k=5"
        yield "show", path, "-n", 1


def test_a_run_as_it_is_passes_every_command(run, tmp_path):
    for command in commands(run, tmp_path):
        status, told = invoke(*command)
        assert status == 0, (command, told)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_run_is_refused_by_every_command(forge, run, tmp_path):
    forge(run)
    for command in commands(run, tmp_path):
        status, told = invoke(*command)
        assert status > 0, command
        assert str(run) in told, command
        assert "Traceback" not in told
    assert not list((tmp_path / "board").rglob("seed-*.json"))
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("forge", IN_TASK, ids=lambda forge: forge.__name__)
def test_items_that_are_not_the_tasks_are_refused_where_its_data_are_read(forge, run, tmp_path):
    forge(run)
    for command in (("publish", run, "--into", tmp_path / "board"), ("audit", run)):
        status, told = invoke(*command)
        assert status == 1, command
        assert "the digest of the ids of the test items of addition" in told


def test_a_changed_artifact_is_named_by_test_and_audit(run, tmp_path):
    file = next(path for path in sorted((run / "artifact").rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes() + b" ")
    status, told = invoke("audit", run)
    assert status == 1
    assert "digest of artifact" in told
    status, told = invoke("test", run, "-o", tmp_path / "tests", "-L", 5)
    assert status > 0


@pytest.fixture
def record(original, tmp_path):
    """Record file of the run, as `bench publish` writes it."""
    path = tmp_path / "records" / f"{original.name}.json"
    path.parent.mkdir()
    path.write_text(compact(read_record(original)))
    return path


def edit(record, **fields):
    document = json.loads(record.read_bytes())
    document.update(fields)
    record.write_text(json.dumps(document))


def test_a_record_with_other_items_is_not_published(record, tmp_path):
    edit(record, items=items_digest(["1+1"] * 12))
    read_record(record)  # its verdicts and counts agree
    for command in (("publish", record, "--into", tmp_path / "board"), ("audit", record)):
        status, told = invoke(*command)
        assert status == 1
        assert "items is" in told
    assert not list((tmp_path / "board").rglob("seed-*.json"))


def test_a_record_under_another_name_is_published_under_its_own(record, tmp_path):
    other = record.with_name("seed-9-ffffffff.json")
    record.rename(other)
    invoke("publish", other, "--into", tmp_path / "board")
    assert [path.name for path in (tmp_path / "board").rglob("seed-*.json")] == [record.name]


def test_a_second_file_of_one_run_on_the_board_is_refused(record, tmp_path):
    board = tmp_path / "board"
    invoke("publish", record, "--into", board)
    (written,) = board.rglob("seed-*.json")
    shutil.copy(written, written.with_name("seed-9-ffffffff.json"))
    before = (board / "leaderboard.md").read_bytes()
    for command in (("publish", "--into", board), ("leaderboard", "--check", board)):
        status, told = invoke(*command)
        assert status > 0
        assert "seed-9-ffffffff.json" in told
        assert str(written.relative_to(board)) in told
    assert (board / "leaderboard.md").read_bytes() == before
