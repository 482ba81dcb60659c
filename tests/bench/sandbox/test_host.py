"""Workers: lost ones are replaced, nothing is left behind, and verdicts are reproducible."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bench.sandbox import Program, host, probe
from bench.sandbox.host import WorkerPool
from bench.sandbox.launch import command

PROGRAM = Program("def f(): return 1", "assert f() == 1", "f")


@pytest.fixture
def pool() -> "WorkerPool":
    return WorkerPool(probe().present)


def children() -> set[int]:
    """Return the pids of all descendants of this process."""
    found: set[int] = set()
    rest = [os.getpid()]
    while rest:
        for tasks in Path(f"/proc/{rest.pop()}/task").glob("*/children"):
            try:
                new = set(map(int, tasks.read_text().split()))
            except (FileNotFoundError, ProcessLookupError):  # the thread or the process has ended
                continue
            rest += new
            found |= new
    return found


def idle(pool: WorkerPool) -> list[host.Worker]:
    return [worker for idle in pool._idle.values() for worker in idle.queue]


@pytest.mark.slow
def test_programs_leave_no_process_descriptor_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge 200 programs with all kinds of results; BENCH_SANDBOX_PROGRAMS sets another number."""
    count = int(os.environ.get("BENCH_SANDBOX_PROGRAMS", "200"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    codes = [
        "def f(): return 1",
        "def f(): return 2",
        "import os\nos._exit(1)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ndef f(): return 1",
        "import ctypes\nctypes.string_at(0)",
    ]
    programs = [Program(codes[i % len(codes)], "assert f() == 1", "f") for i in range(count)]
    programs.append(Program("while True: pass", "assert f() == 1", "f", timeout=0.2))
    before, outside = set(Path("/proc/self/fd").iterdir()), children()
    pool = WorkerPool(probe().present)
    pool.judge(programs[:5], workers=1)
    # A fork server that leaked one descriptor per program would soon have none left.
    (worker,) = idle(pool)
    resource.prlimit(worker._process.pid, resource.RLIMIT_NOFILE, (24, 24))
    statuses = [v.status for v in pool.judge(programs, workers=1)]
    assert statuses == ["passed", "failed", "crashed", "passed", "crashed"] * (count // 5) + ["timeout"]
    assert children() - outside == {worker._process.pid}
    pool.close()
    assert children() == outside
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_verdicts_are_reproducible(pool: WorkerPool) -> None:
    """Judge a program 100 times on two workers, although its result depends on the order of a set."""
    word = "def f(): return ''.join({'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta'})"
    guess = Program(word, "assert f()[0] in 'abg'", "f")
    verdicts = pool.judge([guess] * 100, workers=2)
    assert len({(v.status, v.detail) for v in verdicts}) == 1
    pool.close()


def test_a_lost_worker_is_replaced(pool: WorkerPool) -> None:
    assert pool.judge_one(PROGRAM).passed
    (worker,) = idle(pool)
    worker._process.kill()
    assert pool.judge_one(PROGRAM).passed
    (fresh,) = idle(pool)
    assert fresh is not worker
    pool.close()


def test_a_worker_that_is_lost_during_a_program_is_replaced(pool: WorkerPool) -> None:
    """The program is judged again, and its processes end with the worker."""
    assert pool.judge_one(PROGRAM).passed
    (worker,) = idle(pool)
    slow = Program("import time\ndef f():\n    time.sleep(1)\n    return 1\n", "assert f() == 1", "f")
    found: set[int] = set()

    def kill() -> None:
        while len(found) < 2:
            tasks = Path(f"/proc/{worker._process.pid}/task/{worker._process.pid}/children")
            found.update(map(int, tasks.read_text().split()))
        worker._process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    verdict = pool.judge_one(slow)
    thread.join()
    assert verdict.passed
    assert not any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in found)
    pool.close()


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_GRACE", 0.2)
    assert pool.judge_one(PROGRAM).passed
    (worker,) = idle(pool)
    os.kill(worker._process.pid, signal.SIGSTOP)
    endless = Program("while True: pass", "assert f() == 1", "f", timeout=0.1)
    assert pool.judge_one(endless).status == "timeout"
    assert worker._process.poll() is not None
    pool.close()


def test_a_program_that_loses_two_workers_gets_infrastructure_and_no_score(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "command", lambda module, *layers: [sys.executable, "-c", ""])
    verdict = pool.judge_one(PROGRAM)
    assert (verdict.status, verdict.passed, verdict.detail) == ("infrastructure", False, "the fork server ended")


@pytest.mark.parametrize("sabotaged", ["candidate", "checker"])
def test_a_process_that_cannot_be_confined_runs_nothing(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch, sabotaged: str
) -> None:
    """Both sides stop if they cannot be confined, and the result is not blamed on the program."""
    start = command("server")
    broken = f"""
from inside import {sabotaged}
main = {sabotaged}.main
class Broken:
    def apply(self, seconds): raise OSError("no")
def broken(*args): main(*(Broken() if type(a).__name__ == 'Confinement' else a for a in args))
{sabotaged}.main = broken
server.main("""
    start[start.index("-c") + 1] = start[start.index("-c") + 1].replace("; ", "\n").replace("server.main(", broken)
    monkeypatch.setattr(host, "command", lambda module, *layers: [*start, *layers])
    verdict = pool.judge_one(PROGRAM)
    assert (verdict.status, "not be confined" in verdict.detail) == ("infrastructure", True)


def test_the_caller_may_fork_and_may_be_killed() -> None:
    """A forked copy starts its own workers. When the caller is killed, its workers end."""
    script = """
import os, signal, sys
from pathlib import Path
from bench.sandbox import Program, judge
program = Program('def f(): return 1', 'assert f() == 1', 'f')
assert judge([program], workers=1)[0].passed
pid = os.fork()
if pid == 0:
    ok = judge([program], workers=1)[0].passed
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
assert judge([program], workers=1)[0].passed
print(*Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text().split(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = os.pathsep.join([str(Path(host.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert run.returncode == -signal.SIGKILL, run.stderr
    (worker,) = map(int, run.stdout.split())
    # The worker ends a moment later, when it reads the end of its control socket. Otherwise the test times out.
    while Path(f"/proc/{worker}").exists() and state(worker) != "Z":
        os.sched_yield()


def test_a_caller_without_descriptors_gets_an_error_and_no_verdict() -> None:
    """It does so whether the worker has still to be started, or waits already."""
    script = """
import os, resource, sys
from bench.errors import BenchError
from bench.sandbox import Program, judge
program = Program('def f(): return 1', 'assert f() == 1', 'f')
if sys.argv[1] == 'warm':
    assert judge([program], workers=1)[0].passed
else:
    from bench.sandbox import probe
    probe()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard))
taken = []
try:
    while True: taken.append(os.dup(0))
except OSError: pass
try:
    print(judge([program], workers=1))
except BenchError as error:
    print(error)
for descriptor in taken: os.close(descriptor)
print(judge([program], workers=1)[0].status)
"""
    path = os.pathsep.join([str(Path(host.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    for start in ("cold", "warm"):
        run = subprocess.run(
            [sys.executable, "-c", script, start],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert run.returncode == 0, run.stderr
        message = "the sandbox cannot open a socket: Too many open files; raise the limit (ulimit -n)"
        assert run.stdout.splitlines() == [message, "passed"]


def test_standard_streams_carry_no_message_to_the_next_program() -> None:
    leave = "import fcntl, os\nfor n in (0, 1, 2):\n    fcntl.fcntl(n, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)\n"
    look = (
        "import fcntl, os\nfound = [fcntl.fcntl(n, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK) for n in (0, 1, 2)]\n"
    )
    test = "assert f() == [0, 0, 0]"
    left, found = host.judge(
        [
            Program(leave + look + "def f(): return found", "assert f()[0]", "f"),
            Program(look + "def f(): return found", test, "f"),
        ],
        workers=1,
    )
    assert left.passed, left.detail
    assert found.passed, found.detail
