"""Kill real runs at random moments, and compare their results with those of uninterrupted runs."""

import json
import multiprocessing
import random
import signal
import time
from contextlib import suppress

import psutil
import pytest

from bench.cli import main
from bench.records.schema import find_runs

pytestmark = pytest.mark.slow

RUN = ["-t", "addition", "-M", "tiny-adder", "-L", "30"]
METHODS = {
    "corp": ["-b", "2000", "--set", "smallest_population=3", "--set", "sigmas=0.005"],
    "randopt": ["-b", "300"],
    "es": ["-b", "300"],
    "grpo": ["-b", "300"],
    "es tuned": ["-b", "1300", "--tune", "2"],
    "grpo tuned": ["-b", "900", "--tune", "3"],
}
ENGINES = {"corp": (1, 2), "randopt": (2,), "es": (1,), "grpo": (1,), "es tuned": (2,), "grpo tuned": (1,)}
KILLS = 2  # of each run
PAUSE = 0.05  # seconds; several journal lines, or part of a training step


def start(*arguments):
    """Start a command in a process forked from one that has imported torch and trl, which saves seconds per kill."""
    process = multiprocessing.get_context("forkserver").Process(target=main, args=(list(map(str, arguments)),))
    process.start()
    return process


def kill(process):
    """Kill a command and all its child processes with SIGKILL. Return whether it was still running."""
    with suppress(psutil.NoSuchProcess):
        command = psutil.Process(process.pid)
        for member in (command, *command.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def finish(*arguments):
    process = start(*arguments)
    process.join()
    assert process.exitcode == 0


def lines(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kept(folder):
    """Return the bytes of all files that must not depend on kills, by name; result.json without its times."""
    paths = [folder / "samples.jsonl", *(path for path in folder.glob("artifact/**/*") if path.is_file())]
    result = json.loads((folder / "result.json").read_bytes())
    del result["timing"]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return files | {"result.json": json.dumps(result).encode()}


def run_with_kills(folder, moments, command, options):
    """Run a command, kill it at each moment, and resume it. Return the number of kills.

    Args:
        folder: Folder of the run that the command makes.
        moments: For each kill a number of journal lines to wait for, and then seconds. Seconds alone would depend on
            the machine's speed, and most kills would come while the model is loaded.
        command: Command that starts the run.
        options: Options that `bench resume` takes too.
    """
    killed = 0
    for target, seconds in moments:
        begun = (folder / "config.json").exists()
        process = start("resume", folder, *options) if begun else start(*command, *options)
        while process.is_alive() and lines(folder) < target:
            time.sleep(0.001)
        time.sleep(seconds)
        killed += kill(process)
    finish("resume", folder, *options)
    return killed


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_at_random_moments_ends_like_an_uninterrupted_one(method, seed, tmp_path):
    command = ["run", "-m", method.split()[0], *RUN, *METHODS[method], "-o"]
    finish(*command, tmp_path / "uninterrupted", "--engines", 1)
    (uninterrupted,) = find_runs(tmp_path / "uninterrupted")
    total, expected = lines(uninterrupted), kept(uninterrupted)
    assert any(name.endswith("model.safetensors") for name in expected)
    assert any(row["changed"] for row in json.loads(expected["result.json"])["rows"])
    for engines in ENGINES[method]:
        output = tmp_path / f"killed-{engines}"
        folder = output / uninterrupted.relative_to(tmp_path / "uninterrupted")
        drawn = random.Random(f"{method} {engines} {seed}")
        moments = [(target, drawn.uniform(0, PAUSE)) for target in sorted(drawn.sample(range(total + 1), KILLS))]
        killed = run_with_kills(folder, moments, [*command, output], ["--engines", engines])
        assert killed >= KILLS - 1  # the last kill may come too late
        found = kept(folder)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []


def test_a_run_killed_within_its_gate_ends_like_an_uninterrupted_one(tmp_path):
    command = ["run", "-m", "randopt", *RUN, "-b", "1000", "-o"]
    finish(*command, tmp_path / "uninterrupted")
    (uninterrupted,) = find_runs(tmp_path / "uninterrupted")
    journal = (uninterrupted / "journal.jsonl").read_bytes().splitlines()
    looks = [number for number, line in enumerate(journal) if b'"answer":"gate ' in line]
    folder = tmp_path / "killed" / uninterrupted.relative_to(tmp_path / "uninterrupted")
    moments = [(looks[0] + 1, 0.0), (looks[len(looks) // 2], 0.0)]
    assert run_with_kills(folder, moments, [*command, tmp_path / "killed"], ["--engines", 1]) >= 1
    assert kept(folder) == kept(uninterrupted)
