"""Train in two real processes, and kill a run that does so."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from bench.compute.ledger import Work
from bench.records.schema import find_runs
from bench.run.grid import expand, resume_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.settings import parse

pytestmark = pytest.mark.slow

# Counts the work that the hooks of each process report, before it is gathered and booked.
COUNTED = """
import os
from pathlib import Path
from bench.compute.ledger import Work
from methods.training.grpo import Grpo

class Counted(Grpo):
    def train(self, loop, folder):
        book, own = loop.training._book, [Work()]
        reserve = book._reserve
        def counted(work):
            reserve(work)
            own[0] += work
        book._reserve = counted
        try:
            super().train(loop, folder)
        finally:
            rank = loop.training.ranks.rank
            Path(os.environ["COUNTS"], f"{rank}-{os.getpid()}.json").write_text(own[0].model_dump_json())
"""
LAUNCH = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",
    "num_machines": 1,
    "num_processes": 2,
}
OPTIONS = {"dtype": "float32", "limit": 60, "device": "cpu"}
BUDGET, RATE = "1000", "lr=1e-4"


def has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "counted_method.py").write_text(COUNTED)
    (folder / "two.yaml").write_text(yaml.safe_dump(LAUNCH))
    (folder / "counts").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTS", str(folder / "counts"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def uninterrupted(folder):
    grid = {"tasks": ["addition"], "models": ["tiny-adder"], "budgets": [BUDGET], "seeds": [0]}
    launch = {"launch": "accelerate", "launch_config": folder / "two.yaml"}
    (run,) = expand(methods=["counted_method:Counted"], settings=[parse(RATE, "--set")], **grid, **OPTIONS, **launch)
    prepared = prepare(run.config, folder / "uninterrupted", ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def test_the_ledger_is_the_sum_of_the_work_counted_in_the_processes(folder, uninterrupted):
    _, result = uninterrupted
    assert result.status == "ok", result.reason
    counts = {path.name[0]: Work(**json.loads(path.read_text())) for path in (folder / "counts").iterdir()}
    assert set(counts) == {"0", "1"}
    assert all(work.backward_passes and work.evaluations for work in counts.values())
    assert result.ledger["train"].work == counts["0"] + counts["1"]
    training, batch = result.report["training"], result.report["schedule"]["batch"]
    assert result.ledger["train"].work.evaluations == training["steps"] * batch
    assert training["flops"] == result.ledger["train"].flops == sum(training["phases"].values())
    planned = result.budget.planned["train"] / result.budget.evaluations  # the gate may end early
    assert 0.85 * planned < result.ledger["train"].flops / result.budget.flops <= planned
    assert not training["cut"]


def test_all_processes_end_and_only_one_of_them_writes(uninterrupted):
    prepared, result = uninterrupted
    assert not [child for child in psutil.Process().children() if "accelerate" in " ".join(child.cmdline())]
    assert [path.name for path in (prepared.folder / "attempts").iterdir()] == ["1.json"]
    keys = [json.loads(line)["key"] for line in (prepared.folder / "journal.jsonl").open()]
    saves = [key["train"] for key in keys if "train" in key]
    assert saves == list(range(len(saves)))
    before = {path: path.read_bytes() for path in prepared.folder.rglob("*") if path.is_file()}
    again = resume_run(prepared.folder, ProgressDisplay(quiet=True))
    assert (again.cached, again.result) == (True, result)
    assert {path: path.read_bytes() for path in prepared.folder.rglob("*") if path.is_file()} == before


def test_the_processes_of_a_killed_run_end_and_its_resumed_result_is_the_same(folder, uninterrupted):
    reference, _ = uninterrupted
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "-m",
        "counted_method:Counted",
        "-t",
        "addition",
        "-M",
        "tiny-adder",
    ]
    command += ["-b", BUDGET, "--set", RATE, "-L", "60", "--dtype", "float32", "--device", "cpu"]
    command += ["--launch", "accelerate", "--launch-config", str(folder / "two.yaml"), "-o", str(folder / "killed")]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def saves():
        journals = list((folder / "killed").glob("*/*/*/*/*/journal.jsonl"))
        return journals[0].read_bytes().count(b'"train":') if journals else 0

    while run.poll() is None and saves() < 2:
        time.sleep(0.01)
    launched = psutil.Process(run.pid).children(recursive=True)
    launcher = next(process for process in launched if "accelerate" in " ".join(process.cmdline()))
    assert sum(process.cmdline()[-2:] == launcher.cmdline()[-2:] for process in launched) == 3  # launcher and ranks
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while not all(map(has_ended, launched)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (killed,) = find_runs(folder / "killed")
    assert not (killed / "result.json").exists()
    outcome = resume_run(killed, ProgressDisplay(quiet=True))
    assert outcome.error is None
    resumed, expected = (
        json.loads((f / "result.json").read_text()) | {"timing": 0} for f in (killed, reference.folder)
    )
    assert resumed == expected
    assert (killed / "samples.jsonl").read_bytes() == (reference.folder / "samples.jsonl").read_bytes()
    assert (killed / "artifact" / "model.safetensors").read_bytes() == (
        reference.folder / "artifact" / "model.safetensors"
    ).read_bytes()
