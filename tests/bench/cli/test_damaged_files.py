"""Files of a run that are damaged, gone or of another kind: each command says so in a sentence, with a remedy."""

import os
import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import BenchError
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

FOLDER, NOT_UTF8, NOT_JSON, NUMBER = "a folder", b'{"row": "\xff"}\n', b"{not json", b"7"
DAMAGES = [
    ("result.json", FOLDER, "Is a directory; move the folder of this name away"),
    ("result.json", NOT_UTF8, "byte 10 is not UTF-8; restore it"),
    ("result.json", NOT_JSON, "not JSON: .*; restore it"),
    ("result.json", NUMBER, "holds int; a JSON object is expected"),
    ("result.json", b'{"result": {}, "schema_version": 5, "x": ' + b"[" * 100_000, "nested too deeply"),
    ("samples.jsonl", FOLDER, "Is a directory; move the folder of this name away"),
    ("samples.jsonl", NOT_UTF8, "line 1: byte 10 is not UTF-8; repeat the run"),
    ("samples.jsonl", NOT_JSON, "line 1: not JSON"),
]
"""File, what replaces its content, and what the message says."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    fields = {"method": "base", "task": "addition", "model": "tiny-adder", "budget": "64", "limit": 10}
    prepared = prepare(RunConfig(**fields), tmp_path_factory.mktemp("runs"), ProgressDisplay(quiet=True))
    assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
    return prepared.folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))


def damage(path, content):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if content is FOLDER:
        path.mkdir()
    else:
        path.write_bytes(content)


def failure(*command):
    """Run a command. Return its message and its exit status; anything but an error for the user raises."""
    done = CliRunner().invoke(cli, list(map(str, command)), standalone_mode=False)
    if done.exception is None:
        return done.output, done.return_value
    if isinstance(done.exception, (BenchError, click.ClickException)):
        return str(done.exception), done.exception.exit_code
    raise done.exception


@pytest.mark.parametrize(("name", "content", "message"), DAMAGES)
def test_a_damaged_file_is_named_with_its_remedy(run, tmp_path, name, content, message, finished):
    damage(run / name, content)
    commands = [["show", run], ["compare", run, finished], ["leaderboard", run.parent]]
    commands += [["report", run.parent, "-o", tmp_path / "site"], ["publish", run, "--into", tmp_path / "board"]]
    for command in commands:
        text, status = failure(*command)
        assert status in (1, 2), command
        assert str(run / name) in text
        assert re.search(message, text), text


@pytest.mark.parametrize("content", [FOLDER, NOT_UTF8, NOT_JSON, NUMBER], ids=["folder", "UTF-8", "JSON", "number"])
def test_a_damaged_configuration_is_named(run, content):
    (run / "result.json").unlink()
    damage(run / "config.json", content)
    for command in (["show", run], ["resume", run], ["test", run, "-t", "addition"], ["export", run, "-o", "x"]):
        text, status = failure(*command)
        assert status in (1, 2), command
        assert str(run / "config.json") in text


@pytest.mark.parametrize("content", [b"x", FOLDER], ids=["file", "folder"])
def test_a_damaged_artifact_is_named(run, tmp_path, content):
    damage(run / "artifact", content)
    for command in (["export", run, "-o", tmp_path / "x"], ["test", run, "-t", "modular-addition", "-o", tmp_path]):
        text, status = failure(*command)
        assert status in (1, 2, 3), command
        assert str(run) in text


def test_analyses_of_another_kind_are_left_out_of_a_report(run, tmp_path):
    (run / "analysis" / "gate.json").mkdir(parents=True)
    (run / "analysis" / "density.json").write_bytes(b"\xff")
    (run / "attempts" / "9.json").write_bytes(b"\xff")
    assert failure("report", run.parent, "-o", tmp_path / "site")[1] == 0
    text, status = failure("leaderboard", run.parent, "--since", "2020-01-01")
    assert status in (1, 2)
    assert "9.json" in text


def test_a_place_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    for command in (
        ["report", run.parent, "-o", tmp_path / "file" / "site"],
        ["publish", run, "--into", tmp_path / "file" / "board"],
        ["export", run, "-o", tmp_path / "file" / "x"],
        ["run", "-m", "base", "-t", "addition", "-M", "tiny-adder", "-o", tmp_path / "file" / "runs"],
        ["analyze", "geometry", run, "-o", tmp_path / "file" / "x.json"],
    ):
        text, status = failure(*command)
        assert status in (1, 2), (command, text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
@pytest.mark.parametrize("name", ["result.json", "samples.jsonl", "journal.jsonl"])
def test_a_file_without_permission_is_named(run, name):
    (run / name).chmod(0)
    text, status = failure("leaderboard", run.parent)
    assert status == 1
    assert f"{run / name}: cannot be read: Permission denied; give this user access to it" in text
