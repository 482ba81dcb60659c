"""Runs with trackers that work, fail at each point, and hang."""

import io
import json
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.cli import cli
from bench.cli.interrupts import Interrupted
from bench.compute.flops import ModelShape
from bench.compute.meter import Meter
from bench.records.config import RunConfig
from bench.records.schema import find_runs, read_result
from bench.run.observer import Observers
from bench.run.progress import ProgressDisplay
from bench.track import live
from bench.track.live import Tracking, tracked
from bench.track.process import TrackerProcess

OWN = """
import json, os, time
from pathlib import Path

class Recorder:
    def begin(self, run):
        print("a library that prints")
        self.path = Path(os.environ["RECORDED"])
        self.write("begin", run.id, run.name, run.tags)
        return {}
    def log(self, points):
        for step, values in points:
            self.write("log", step, dict(values))
    def end(self, step, final, *, status):
        self.write("end", step, dict(final), status)
        return "here"
    def write(self, *what):
        with self.path.open("a") as file:
            file.write(json.dumps(what) + "\\n")

class Silent(Recorder):
    def write(self, *what):
        pass

class AtBegin(Silent):
    def begin(self, run):
        raise RuntimeError("cannot begin")

class AtLog(Silent):
    def log(self, points):
        raise RuntimeError("cannot log\\nat all")

class AtEnd(Silent):
    def end(self, step, final, *, status):
        raise RuntimeError("cannot end")

class Dies(Silent):
    def log(self, points):
        os._exit(7)

class Hangs(Silent):
    def begin(self, run):
        time.sleep(600)
"""

STOPPED = """
from methods.base import Base

class Stopped(Base):
    name = "stopped"
    def adapt(self, context):
        raise KeyboardInterrupt
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_trackers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RECORDED", str(tmp_path / "recorded"))
    return tmp_path / "recorded"


def invoke(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False, catch_exceptions=False)


def recorded(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


RUN = "run -m es -t addition -M tiny-adder -b 128 -L 8 --dtype float32 --gate off".split()  # noqa: SIM905


@pytest.mark.slow
def test_a_failing_tracker_is_named_once_and_changes_nothing(own, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "LIMIT", 300)  # a machine that runs other tests is slow
    failing = ("AtBegin", "AtLog", "AtEnd", "Dies")
    options = [word for name in ("Recorder", *failing) for word in ("--track", f"own_trackers:{name}")]
    done = invoke(*RUN, "-o", tmp_path / "tracked", *options)
    plain = invoke(*RUN, "-o", tmp_path / "plain")
    assert (done.return_value, plain.return_value) == (0, 0), done.stderr
    for name, reason in zip(failing, ("cannot begin", "cannot log", "cannot end", "status 7"), strict=True):
        (line,) = [line for line in done.stderr.splitlines() if f"own_trackers:{name} " in line]
        assert "failed, and the run does not need it: " in line
        assert reason in line
    assert done.stderr.splitlines()[-1] == "own_trackers:Recorder: here"
    (with_trackers,), (without,) = find_runs(tmp_path / "tracked"), find_runs(tmp_path / "plain")
    results = [read_result(folder).model_copy(update={"timing": None}) for folder in (with_trackers, without)]
    assert results[0] == results[1]
    assert sorted(p.name for p in with_trackers.iterdir()) == sorted(p.name for p in without.iterdir())

    during = recorded(own)
    ends = [line for line in during if line[0] == "end"]
    assert [status for *_, status in ends] == ["ok"]
    budget = results[0].budget
    logged = [line[2] for line in during if line[0] == "log" and "spent/flops" in line[2]]
    assert logged[-1]["spent/flops"] == budget.spent
    assert logged[-1]["account/sample"] == results[0].ledger["sample"].flops
    own.unlink()
    afterwards = invoke("track", with_trackers, "--to", "own_trackers:Recorder")
    assert (afterwards.return_value, afterwards.stdout) == (0, f"{with_trackers}: own_trackers:Recorder: here\n")
    later = recorded(own)
    assert later == during


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_its_trackers(own, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "INTERRUPTED", 300)
    (tmp_path / "own_methods.py").write_text(STOPPED)
    names = ("own_trackers:Recorder", "own_trackers:Silent")
    options = [word for name in names for word in ("--track", name)]
    with pytest.raises(Interrupted, match=f"bench resume .* {' '.join(options)}$"):
        invoke(*RUN[:2], "own_methods:Stopped", *RUN[3:], "-o", tmp_path / "runs", *options)
    assert recorded(own)[-1][2:] == [{}, "interrupted"]


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "complete"), [("LIMIT", True), ("INTERRUPTED", False)])
def test_a_hanging_tracker_is_stopped(own, monkeypatch, limit, complete):
    monkeypatch.setattr(live, limit, 0.3)
    config = RunConfig(method="es", task="addition", model="tiny-adder")
    (own.parent / "config.json").write_text(config.model_dump_json())
    said, noted = [], []
    names = ["own_trackers:Hangs"]
    tracking = Tracking(names, said.append, noted.append)
    started = time.perf_counter()
    tracking.began(own.parent, "1a2b3c4d")
    tracking.budgeted(Meter(ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True).profile(), limit=10**9), 64, 10**9)
    for step in range(5000):  # more than the pipe holds
        tracking.advanced({"step": float(step), "reward": 0.5})
    tracking.ended(complete=complete)
    assert time.perf_counter() - started < 5
    assert said == names == []  # the next run of a grid does not wait for it
    (line,) = noted
    assert "tracker own_trackers:Hangs failed" in line
    assert "it did not end in time, and was stopped; to log it once it has ended: bench track " in line


@pytest.mark.slow
def test_a_tracker_that_cannot_be_imported_says_so(own):
    with TrackerProcess("own_trackers:Missing") as process:
        process.send_last({"finished": str(own.parent)})
        process.wait()
    assert process.where is None
    assert "has no attribute 'Missing'" in process.error


def test_a_failed_tracker_is_named_even_if_quiet(own):
    display = ProgressDisplay(Console(file=io.StringIO()), quiet=True)
    tracked(display, ["own_trackers:AtBegin"])
    with display.observed(own.parent, "1a2b"):
        pass
    assert "tracker own_trackers:AtBegin failed" in display.console.file.getvalue()


def test_an_observer_that_raises_is_named_once():
    class Broken:
        def began(self, folder, identity):
            raise ValueError("broken")

    noted = []
    observers = Observers(noted.append)
    observers.add(Broken())
    for _ in range(2):
        observers.tell(lambda each: each.began(None, ""))
    assert len(noted) == 1
    assert "Broken failed and is left out, the run goes on: ValueError: broken" in noted[0]


def test_observers_hear_how_a_run_ends(tmp_path):
    heard = []

    class Listener:
        def began(self, folder, identity):
            heard.append((folder, identity))

        def advanced(self, values):
            heard.append(dict(values))

        def ended(self, *, complete):
            heard.append(complete)

    display = ProgressDisplay(quiet=True)
    display.observers.add(Listener())
    with display.observed(tmp_path, "id"), display.stage("training") as stage:
        stage.advance(0.5, values={"reward": 0.5})
        stage.advance()
    with pytest.raises(KeyboardInterrupt), display.observed(tmp_path, "id"):
        raise KeyboardInterrupt
    assert heard == [(tmp_path, "id"), {"reward": 0.5}, {}, True, (tmp_path, "id"), False]


CHILD = """
import os, time
from threading import Thread
from bench.track.__main__ import _end_after
Thread(target=_end_after, args=(os.getppid(), 0.1), daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True)
print(child.stdout.readline().decode(), flush=True)
"""


@pytest.mark.slow
def test_a_tracker_that_hangs_does_not_outlive_a_killed_run():
    told = subprocess.run([sys.executable, "-c", PARENT, CHILD], capture_output=True, text=True, check=True)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(told.stdout)).wait(20)
