"""`--quiet`, and that no display changes a result."""

import json

import click
import pytest
from click.testing import CliRunner

from bench.cli import cli, main
from bench.cli.geometry import geometry
from bench.records.journal import read_entries

RUN = ["run", "-t", "addition", "-M", "tiny-adder", "--dtype", "float32", "-L", "20"]
ES = [*RUN, "-m", "es", "-b", "300"]


def bench(*arguments, code=0):
    """Run the command line. Return its standard output and standard error."""
    with CliRunner().isolation() as (out, err, _):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, arguments)))
        stdout, stderr = (stream.getvalue().decode() for stream in (out, err))
    assert stop.value.code == code, stderr
    return stdout, stderr


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The same run twice: with and without progress. Their standard error and folders."""
    found = {}
    for option in ("--json", "-q"):
        output = tmp_path_factory.mktemp("runs")
        run = bench(*ES, "-o", output, option)
        (folder,) = (path.parent for path in output.rglob("result.json"))
        found[option] = run, folder
    return found


@pytest.mark.slow
def test_quiet_prints_the_result_alone(shown):
    ((_, loud), _), ((stdout, quiet), folder) = shown.values()
    assert "calibration: " in loud
    assert quiet == ""
    assert f"record: {folder}" in stdout


@pytest.mark.slow
def test_progress_changes_no_result(shown):
    def outcome(folder):
        entries, _ = read_entries(folder / "journal.jsonl")
        for entry in entries:
            entry["value"].pop("seconds", None)
        result = json.loads((folder / "result.json").read_text())
        del result["timing"]
        return result, (folder / "samples.jsonl").read_bytes(), entries

    (_, loud), (_, quiet) = shown.values()
    assert outcome(loud) == outcome(quiet)


@pytest.mark.slow
def test_a_quiet_grid_prints_its_board_and_what_was_refused(shown, tmp_path):
    _, (_, folder) = shown.values()
    board, said = bench(*ES, "-m", "es", "-o", folder.parents[4], "-q")
    assert said == ""
    assert "\tes\t" in board
    _, said = bench(*RUN, "-m", "es", "-b", "2", "-b", "3", "-o", tmp_path, "-q", code=3)
    assert said.startswith("0 of 2 cells done, 2 refused\n")


def test_quiet_says_an_error():
    assert "nowhere" in bench("resume", "nowhere", "-q", code=2)[1]


def test_every_command_that_shows_progress_has_the_option():
    context = click.Context(cli)
    having = {name for name in cli.list_commands(context) if "quiet" in names(cli.get_command(context, name))}
    assert having == {"run", "resume", "test", "demo", "audit", "prepare", "check"}
    assert "quiet" in names(geometry)


def names(command):
    return {parameter.name for parameter in command.params}
