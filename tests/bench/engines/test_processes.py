"""Engines in child processes: the same results, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
from faulty_engines import Broken, Slow

from bench.engines.interface import Job, Sampling
from bench.engines.placement import Engines, cores
from bench.engines.processes import child_processes
from bench.engines.transformers import TransformersEngine
from bench.errors import Refused, UsageError
from bench.models.source import resolve
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point

GIB = 1 << 30
SAMPLING = Sampling(max_new_tokens=4)
LOAD = partial(TransformersEngine, resolve("tiny-adder").prepare().path)


def job(number):
    return Job(Point({number: 1e-3}), ((1, 5, 6, 14, 7, 8, 15),), SAMPLING)


def run(folder, engines, **fields):
    config = RunConfig(task="addition", model="tiny-adder", limit=60, **fields)
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True), engines).model_copy(update={"timing": None})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["corp", "randopt"])
def test_a_run_ends_the_same_on_one_and_on_three_engines(tmp_path, method):
    fields = {"method": method, "budget": "800"}
    one, alone = run(tmp_path / "1", Engines(1), **fields)
    three, result = run(tmp_path / "3", Engines(3), **fields)
    assert result == alone
    samples = [(prepared.folder / "samples.jsonl").read_bytes() for prepared in (one, three)]
    assert samples[0] == samples[1]


@pytest.mark.slow
def test_answers_and_errors_come_back_and_a_dead_worker_s_jobs_are_named():
    with child_processes([LOAD, LOAD], 1) as workers:
        assert workers.describe().settings["backend"] == "transformers"
        workers.start(0, job(1), None)
        worker, done, result = workers.wait()
        assert (worker, done) == (0, job(1))
        assert result.completions is not None
        victims = [p for p in psutil.Process().children(recursive=True) if p.pid in _pids(workers, 1)]
        for process in victims:
            process.kill()
        for process in victims:
            process.wait()
        workers.prepare([job(2)])
        workers.start(1, job(2), None)
        assert workers.wait() == (1, job(2), None)
        assert workers.alive == (0,)


@pytest.mark.slow
def test_an_error_in_an_engine_is_raised_with_its_traceback():
    with child_processes([partial(Broken, LOAD.args[0])], 1) as workers:
        workers.describe()
        workers.start(0, job(1), None)
        _, _, error = workers.wait()
        assert isinstance(error, ZeroDivisionError)
        assert "on purpose" in str(error.__cause__)


@pytest.mark.slow
def test_no_process_is_left_after_the_block_even_in_the_middle_of_a_job():
    with child_processes([partial(Slow, LOAD.args[0])], 1) as workers:
        workers.describe()
        workers.start(0, job(1), None)
        pids = _pids(workers, 0)
        assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.slow
def test_a_process_whose_parent_is_killed_ends():
    script = (
        "import sys, time\n"
        "from functools import partial\n"
        "from bench.engines.processes import child_processes\n"
        "from bench.engines.transformers import TransformersEngine\n"
        "if __name__ == '__main__':\n"
        "    with child_processes([partial(TransformersEngine, sys.argv[1])], 1) as workers:\n"
        "        workers.describe()\n"
        "        print(*workers._executors[0]._processes, flush=True)\n"
        "        time.sleep(3600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, LOAD.args[0]], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not psutil.pid_exists(child):
            return
        time.sleep(0.1)
    pytest.fail("the engine's process outlives its parent")


def test_a_process_that_cannot_load_is_an_error():
    with (
        child_processes([partial(TransformersEngine, "/nowhere")], 1) as workers,
        pytest.raises(Exception, match="nowhere"),
    ):
        workers.describe()


def test_a_cpu_gets_an_engine_per_core_as_far_as_memory_allows(monkeypatch):
    monkeypatch.setattr("bench.engines.placement.cores", lambda: 8)

    def count(free, weight_bytes, device="cpu", backend="transformers", small=False):
        memory = type("Memory", (), {"available": free})
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        auto = Engines(None)
        return auto.resolve(backend=backend, device=device, weight_bytes=weight_bytes, small=small).count

    assert count(64 * GIB, GIB) == 8
    assert count(20 * GIB, GIB) == 2
    assert count(GIB, GIB) == 1
    assert count(64 * GIB, GIB, small=True) == 1
    assert count(64 * GIB, GIB, device="cuda") == 1
    assert count(64 * GIB, GIB, backend="vllm") == 1


def test_a_number_that_is_given_stands():
    assert Engines(5).resolve(backend="vllm", device="cuda", weight_bytes=1, small=True) == Engines(5)
    assert cores() >= 1


def test_ray_is_needed_for_a_cluster_only(monkeypatch):
    monkeypatch.setattr("bench.engines.placement.find_spec", lambda name: None)
    Engines(4).require()
    Engines(None).require()
    with pytest.raises(Refused, match="needs ray"):
        Engines(4, "auto").require()
    with pytest.raises(UsageError, match="how many engines"):
        Engines(None, "auto").require()


def _pids(workers, number):
    return set(workers._executors[number]._processes)


INTERRUPTED = """
import os, signal
from multiprocessing import reduction
from bench.engines.processes import child_processes

send = reduction.sendfds

def interrupted(*arguments):
    os.kill(os.getpid(), signal.SIGINT)  # while the server has a connection and no request
    send(*arguments)

def first(*arguments):
    send(*arguments)
    reduction.sendfds = interrupted  # for the second process, when the server is ready

reduction.sendfds = first
with child_processes([print, print], 1):
    pass
"""


@pytest.mark.slow
def test_the_server_is_never_left_with_half_a_request():
    program = [sys.executable, "-c", INTERRUPTED]
    outcome = subprocess.run(program, stderr=subprocess.PIPE, text=True, check=False)
    assert outcome.stderr.count("Traceback") == 1, outcome.stderr
    assert outcome.stderr.endswith("KeyboardInterrupt\n")
