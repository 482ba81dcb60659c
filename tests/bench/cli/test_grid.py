"""Grids on the command line: how they end, what another process holds, and interruptions."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner
from filelock import FileLock

from bench.cells.job import Ended
from bench.cells.signals import WARNINGS
from bench.cli import main
from bench.cli.grid import _ending
from bench.errors import BenchError, Refused, UsageError
from bench.records.schema import find_runs
from bench.run.grid import RunOutcome, expand
from methods.base import Base

HOW = "all finished work is saved. Go on with:"
QUICK = ["-t", "addition", "-M", "tiny-adder", "-b", "300", "-L", "20", "--engines", "1"]


class Faulty(Base):
    """Method with a defect at seed 1."""

    def adapt(self, context):
        if context.seed == 1:
            raise ZeroDivisionError("division by zero")
        return super().adapt(context)


class Picky(Base):
    """Method that refuses all seeds."""

    def adapt(self, context):
        raise Refused(f"no seed is good enough,\nnot even {context.seed // 2}")


class Stopped(Base):
    """Method that sends a signal to its process."""

    number = signal.SIGINT

    def adapt(self, context):
        os.kill(os.getpid(), self.number)
        time.sleep(60)
        raise AssertionError("the signal was ignored")


class Impatient(Base):
    """Method during whose end Ctrl-C is pressed twice more."""

    def adapt(self, context):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


class Terminated(Stopped):
    """Method that ends its process as batch systems do."""

    number = signal.SIGTERM


class Warned(Stopped):
    """Method whose process is warned of the end of its time, as batch systems do."""

    number = signal.SIGUSR1


FAULTY, PICKY, STOPPED, TERMINATED, WARNED = (
    f"{__name__}:{each.__name__}" for each in (Faulty, Picky, Stopped, Terminated, Warned)
)

SIGNALS = pytest.mark.parametrize(
    ("method", "code", "how"), [(STOPPED, 130, "interrupted"), (TERMINATED, 143, "ended by SIGTERM")]
)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Grid of six cells, one of which failed and two of which were refused for one reason."""
    command = ["run", "-m", "base", "-m", FAULTY, "-m", PICKY, *QUICK, "-s", "0", "-s", "1"]
    command += ["-o", tmp_path_factory.mktemp("grid") / "my runs"]
    return command, invoke(*command, code=1)


def invoke(*arguments, code=0):
    """Run the command line in this process, and check its exit status."""
    with CliRunner().isolation() as (out, err, _):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        found = SimpleNamespace(stdout=out.getvalue().decode(), stderr=err.getvalue().decode())
    assert stop.value.code == code, found.stderr
    return found


def unclocked(text):
    return re.sub(r"\d:\d\d\b", "0:00", text)


def test_a_grid_ends_with_its_board_what_is_not_done_and_the_command_to_go_on(ended):
    command, outcome = ended
    assert outcome.stdout == invoke("leaderboard", command[-1]).stdout
    (failed,) = (run for run in find_runs(command[-1]) if "Faulty" in str(run) and "seed-1" in run.name)
    number = Faulty.adapt.__code__.co_firstlineno + 2
    reason = f"ZeroDivisionError: division by zero (test_grid.py, line {number}, in adapt)"
    assert unclocked(outcome.stderr).splitlines() == [
        "grid of 6 cells: addition, tiny-adder, budget 300",
        "base, seed 0: done in 0:00  (1 of 6)",
        "base, seed 1: done in 0:00  (2 of 6)",
        f"{FAULTY}, seed 0: done in 0:00  (3 of 6)",
        f"{FAULTY}, seed 1: failed: {reason}  (4 of 6)",
        f"{PICKY}, seed 0: refused: no seed is good enough, not even 0  (5 of 6)",
        f"{PICKY}, seed 1: refused: no seed is good enough, not even 0  (6 of 6)",
        "3 of 6 cells done, 1 failed, 2 refused",
        f"failed: {reason}",
        f"  {FAULTY}, seed 1",
        f"  traceback: {failed / 'result.json'}",
        "refused: no seed is good enough, not even 0",
        f"  {PICKY}, seed 0; {PICKY}, seed 1",
        f"next:   {shlex.join(['bench', *map(str, command)])}",
    ]


def test_a_grid_ends_with_its_stopped_cells_and_names_no_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.cli.grid.same_command", lambda: "bench run")
    (run,) = expand(
        methods=["base"], tasks=["addition"], models=["tiny-adder"], budgets=["400"], seeds=[0], dtype="float32"
    )
    stopped = Ended(str(tmp_path), kind="stopped", reason="stopped by SIGTERM").outcome(run)
    died = RunOutcome(run.config, tmp_path, error=BenchError("its worker died 3 times"))
    assert list(_ending([stopped], ["a"])) == [
        ("0 of 1 cells done, 1 stopped", "bold"),
        ("stopped: stopped by SIGTERM", "yellow"),
        ("  a", ""),
        ("next:   bench run", ""),
    ]
    assert "traceback" not in str(list(_ending([died], ["a"])))
    (tmp_path / "result.json").touch()
    assert (f"  traceback: {tmp_path / 'result.json'}", "") in list(_ending([died], ["a"]))


def test_show_prints_the_traceback_of_a_failed_run_on_standard_error(ended):
    command, _ = ended
    (failed,) = (run for run in find_runs(command[-1]) if "Faulty" in str(run) and "seed-1" in run.name)
    shown = invoke("show", failed)
    assert "failed: ZeroDivisionError: division by zero (test_grid.py, line " in shown.stdout
    assert shown.stderr == json.loads((failed / "result.json").read_text())["traceback"] + "\n"
    assert 'raise ZeroDivisionError("division by zero")' in shown.stderr


def test_a_run_whose_base_is_never_right_says_to_look_at_its_answers(tmp_path):
    rows = [json.dumps({"prompt": f"{n}+1=", "answer": "never", "check": "exact"}) for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    options = ["-t", "jsonl", "--data", tmp_path / "rows.jsonl", "-M", "tiny-adder", "-b", "300"]
    outcome = invoke("run", "-m", "base", *options, "--max-new-tokens", "5", "-o", tmp_path / "runs")
    (folder,) = find_runs(tmp_path / "runs")
    (more,) = (text for text in outcome.stdout.splitlines() if text.startswith("more:"))
    assert more.startswith("more:   the base has no right answer to 20 test items")
    assert f"bench show {folder} -n 5" in " ".join(outcome.stdout.split())


def test_cells_that_were_done_before_are_counted_and_not_printed(ended):
    command, first = ended
    again = invoke(*command, code=1)
    assert "3 of 6 cells were done before, 0 done, 1 failed, 2 refused" in again.stderr
    assert "base" not in again.stderr.partition("next:")[0]
    assert again.stdout == first.stdout


def test_a_grid_with_refusals_alone_says_to_change_what_they_name(tmp_path):
    command = ["run", "-m", "base", "-m", PICKY, *QUICK, "-o", tmp_path]
    last = invoke(*command, code=3).stderr.splitlines()[-4:]
    assert last == [
        "1 of 2 cells done, 1 refused",
        "refused: no seed is good enough, not even 0",
        f"  {PICKY}",
        "next:   change what the reasons name; the same command is refused again",
    ]


def test_json_of_a_grid_is_all_of_stdout(ended):
    command, _ = ended
    states = [run["result"]["status"] for run in json.loads(invoke(*command, "--json", code=1).stdout)["runs"]]
    assert states == ["ok", "ok", "ok", "failed", "refused", "refused"]


def test_a_run_that_another_process_executes_is_named_and_the_others_go_on(tmp_path):
    invoke("run", *QUICK, "-m", "base", "-o", tmp_path)
    (folder,) = find_runs(tmp_path)
    (folder / "result.json").unlink()
    attempt = json.loads((folder / "attempts" / "1.json").read_text())
    with FileLock(folder / ".lock"):
        outcome = invoke("run", *QUICK, "-m", "base", "-s", "0", "-s", "1", "-o", tmp_path, code=3)
        alone = invoke("resume", folder, code=3)
    who = f"another process ({os.getpid()} on {attempt['host']}, since {attempt['started']})"
    reason = f"{folder}: {who} is executing this run; wait for it, or stop it"
    assert re.search(r"seed 0: held  \(1 of 2\)$", outcome.stderr, re.MULTILINE)
    assert outcome.stderr.count(str(folder)) == 1
    assert f"1 of 2 cells done, 1 held\nheld: {reason}\n  seed 0\nnext:   bench run" in outcome.stderr.replace(
        "base, ", ""
    )
    assert f"bench: {reason}" in alone.stderr


def test_a_process_that_has_ended_is_not_named_as_the_holder(tmp_path):
    invoke("run", *QUICK, "-m", "base", "-o", tmp_path)
    (folder,) = find_runs(tmp_path)
    (folder / "result.json").unlink()
    path = folder / "attempts" / "1.json"
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": gone.pid}))
    with FileLock(folder / ".lock"):
        assert f"{folder}: another process is executing this run" in invoke("resume", folder, code=3).stderr


@pytest.mark.parametrize(
    ("method", "code", "how"),
    [(STOPPED, 130, "interrupted"), (TERMINATED, 143, "ended by SIGTERM"), (WARNED, 138, "ended by SIGUSR1")],
)
def test_an_interrupted_run_names_the_command_that_resumes_it(tmp_path, method, code, how):
    outcome = invoke("run", "-m", method, *QUICK, "--json", "-o", tmp_path / "my runs", code=code)
    (folder,) = find_runs(tmp_path)
    line = f"bench resume {shlex.quote(str(folder))} --engines 1 --json"
    assert outcome.stderr.endswith(f"bench: {how}; {HOW}\n  {line}\n")
    assert outcome.stdout == ""
    again = invoke(*shlex.split(line)[1:], code=code)
    assert again.stderr.endswith(f"  {line}\n")


@pytest.mark.parametrize(
    ("method", "code", "how"), [(STOPPED, 130, "interrupted"), (TERMINATED, 143, "ended by SIGTERM")]
)
def test_an_interrupted_grid_names_its_own_command(tmp_path, method, code, how):
    command = ["run", "-m", "base", "-m", method, *QUICK, "-o", str(tmp_path / "my runs")]
    before = signal.getsignal(signal.SIGTERM)
    outcome = invoke(*command, code=code)
    line = shlex.join(["bench", *command])
    assert outcome.stderr.endswith(f"bench: {how}; {HOW}\n  {line}\n")
    assert signal.getsignal(signal.SIGTERM) == before
    assert "(1 of 2)" not in invoke(*shlex.split(line)[1:], code=code).stderr  # the first cell was done before


def test_a_further_ctrl_c_does_not_disturb_the_end(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    outcome = invoke("run", "-m", f"{__name__}:{Impatient.__name__}", *QUICK, "-o", tmp_path, code=130)
    assert outcome.stderr.count(HOW) == 1
    assert "Traceback" not in outcome.stderr
    assert signal.getsignal(signal.SIGINT) == before


def children_of(pid):
    """Return all processes below a process. One that has just ended has none."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def serves(process):
    """Return whether a process is the server that forks the engines' processes. One that has ended is none."""
    with suppress(psutil.Error):
        return "forkserver" in " ".join(process.cmdline())
    return False


def imports(server):
    """Return whether the server is importing what the engines' processes share."""
    with suppress(psutil.Error):
        return server.cpu_times().user > 0.3
    return False


def forks(server):
    """Return whether a process of an engine is starting."""
    return bool(children_of(server.pid))


@pytest.mark.slow
@pytest.mark.parametrize("reached", [imports, forks])
@pytest.mark.parametrize(
    ("send", "times", "number"),
    [(os.killpg, 1, signal.SIGINT), (os.killpg, 3, signal.SIGINT), (os.kill, 1, signal.SIGTERM)],
)
def test_nothing_is_printed_after_the_command_to_go_on_while_engines_start(tmp_path, reached, send, times, number):
    command = ["run", "-m", "base", *QUICK[:-1], "2", "-o", str(tmp_path)]
    program = [sys.executable, "-m", "bench", *command]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        while run.poll() is None:
            if any(serves(each) and reached(each) for each in children_of(run.pid)):
                break
            time.sleep(0.01)
        for _ in range(times):  # a terminal sends Ctrl-C to all processes
            send(run.pid, number)
            time.sleep(0.05)
        stderr = run.stderr.read()  # ends when the last process has closed it
    (folder,) = find_runs(tmp_path)
    assert run.returncode == 128 + number
    how = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    assert stderr.endswith(f"bench: {how}; {HOW}\n  bench resume {folder} --engines 2\n")
    assert "Traceback" not in stderr


def test_the_table_of_exit_statuses_has_all_of_them():
    text = (Path(__file__).parents[3] / "docs" / "errors.md").read_text()
    documented = [int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    raised = {0, BenchError.exit_code, UsageError.exit_code, Refused.exit_code}
    ended_by = {128 + each for each in (signal.SIGINT, signal.SIGKILL, signal.SIGPIPE, *WARNINGS)}
    assert documented == sorted(raised | ended_by)


@pytest.mark.slow
def test_a_terminal_of_80_columns_shows_every_cell_with_best_spent_and_time(tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = ["run", "-m", "base", "-m", "corp", "-t", "addition", "-M", "tiny-adder", "-b", "1000", "-L", "400"]
    command += ["-s", "0", "-s", "1", "-o", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    program = [sys.executable, "-m", "bench", *command]
    with subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, env=environment | {"TERM": "xterm"}) as run:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # Linux reports so that the other end was closed
                break
            if not part:
                break
            shown += part
    os.close(master)
    assert run.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r"^cell +state +best +spent +ETA$", "\n".join(lines), re.MULTILINE)
    cell = re.compile(r"corp, seed 1 +\S.* +\d\.\d{3} +\d+ % +\d+:\d\d")
    assert any(cell.match(line) for line in lines)
    assert any(re.match(r"4 of 4 done$", line) for line in lines)
    assert not any("calibration: 0" in line for line in lines)
