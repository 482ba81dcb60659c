"""Kill a real run at random moments, and compare its result with that of an uninterrupted run."""

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time

import pytest

from bench.cli import main
from bench.records.schema import find_runs

pytestmark = pytest.mark.slow

RUN = ["-m", "corp", "-t", "addition", "-M", "tiny-adder", "-b", "2500", "-L", "300", "--set", "smallest_population=3"]
KILLS = 10


def bench(*arguments):
    return [sys.executable, "-m", "bench", *map(str, arguments)]


def start(*arguments):
    """Start a command in a process forked from one that has imported torch, which saves seconds per kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.conformance.method.session", "bench.engines.transformers", "transformers"])
    process = context.Process(target=main, args=(list(map(str, arguments)),))
    process.start()
    return process


def comparable(folder):
    result = json.loads((folder / "result.json").read_text())
    del result["timing"]
    return result


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted")
    subprocess.run(bench("run", *RUN, "-o", output), check=True, capture_output=True)
    (folder,) = find_runs(output)
    return folder


def lines(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_killed_ten_times_ends_like_an_uninterrupted_one(uninterrupted, tmp_path):
    folder = tmp_path / uninterrupted.relative_to(uninterrupted.parents[4])
    total = lines(uninterrupted)
    # The first kill comes before the journal exists, and the last after its last line, while artifact and result are
    # written. The others come when the journal has the target number of lines.
    targets = [0, *sorted(random.Random(0).sample(range(1, total), KILLS - 2)), total]
    killed = 0
    for target in targets:
        resumed = (folder / "config.json").exists()
        child = start("resume", folder) if resumed else start("run", *RUN, "-o", tmp_path)
        while child.is_alive() and (lines(folder) < target or not folder.exists()):
            time.sleep(0.001)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= KILLS - 1  # the last kill may come too late
    subprocess.run(bench("resume", folder), check=True, capture_output=True)
    assert comparable(folder) == comparable(uninterrupted)
    assert (folder / "samples.jsonl").read_bytes() == (uninterrupted / "samples.jsonl").read_bytes()
    for name in ("model.safetensors", "point.json"):
        assert (folder / "artifact" / name).read_bytes() == (uninterrupted / "artifact" / name).read_bytes()
    assert len(list((folder / "attempts").iterdir())) >= killed  # the first kill left no attempt, the last resume did
