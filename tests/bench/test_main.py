import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import cli, main

RECORDS = Path(__file__).parents[2] / "reports" / "records" / "successor"
PRINTING = {
    "list": ["list"],
    "list, JSON": ["list", "--json"],
    "plan": ["plan", "-t", "addition", "-M", "tiny-adder"],
    "leaderboard": ["leaderboard", RECORDS],
    "leaderboard, CSV": ["leaderboard", RECORDS, "--format", "csv"],
    "leaderboard, HTML": ["leaderboard", RECORDS, "--format", "html"],
}
"""Commands that print, through click or through rich."""


def run(*arguments, **streams):
    return subprocess.run([sys.executable, "-m", "bench", *map(str, arguments)], stderr=subprocess.PIPE, **streams)


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_output_that_cannot_be_written_is_an_error(command):
    with Path("/dev/full").open("w") as full:
        done = run(*command, stdout=full)
    message = b"bench: standard output: No space left on device; free the disk, or choose another file\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_output_whose_reader_has_gone_ends_quietly(command):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(*command, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "Permission denied; give this user access to it, or choose another file"),
        (errno.EISDIR, "Is a directory; move the folder of this name away, because a file is expected"),
        (errno.EIO, "Input/output error; check it, or choose another file"),
    ],
)
def test_an_error_of_the_operating_system_names_file_reason_and_remedy(number, remedy, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), "/data/one.json")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"bench: /data/one.json: {remedy}")


def test_a_message_cannot_give_orders_to_the_terminal(capsys):
    with pytest.raises(SystemExit):
        main(["run", "-t", "\x1b[2J\x9b31m\u202ex"])
    error = capsys.readouterr().err
    assert "\\x9b31m\\u202e" in error
    assert not set("\x1b\x9b\u202e") & set(error)


def test_python_m_bench_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bench", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("bench, version ")


def test_arguments_may_be_passed_to_the_command_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["lst"])
    assert ended.value.code == 2
    assert "did you mean 'list'?" in capsys.readouterr().err
