"""The check of a GPU, on a CPU: all sections but vLLM's on a tiny model, their failures and time limits, the report."""

import importlib
import json
import os
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

BROKEN = """
import os, subprocess, sys, time
from measurements.gpu.schema import Found, Skipped

def right(setup):
    return Found(checks={"a holds": True}, figures={"speed, GB/s": 2.5})

def wrong(setup):
    print("shown in the log")
    return Found(checks={"a holds": True, "b holds": False}, figures={"speed, GB/s": 2.5})

def raises(setup):
    raise ValueError(f"no {setup.shape} here")

def skips(setup):
    raise Skipped("nothing is installed")

def dies(setup):
    os.abort()

def leaves(setup):
    sys.exit(4)

def quits(setup):
    sys.exit(0)

def undefined(setup):
    return Found(figures={"speed, GB/s": float("nan")})

def crashes_late(setup):
    import atexit
    atexit.register(os.abort)
    return right(setup)

def hangs(setup):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def gpu(measurements):
    return importlib.import_module("measurements.gpu.runner")


def setup_of(device, shape, folder):
    return importlib.import_module("measurements.gpu.shapes").Setup(device, shape, folder)


@pytest.fixture
def planned(gpu, tmp_path, monkeypatch):
    """Return a section of the module above by the name of its function."""
    (tmp_path / "broken_sections.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, limit=20.0: gpu.Planned(name, f"broken_sections:{name}", limit)


@pytest.fixture
def setup(gpu, tmp_path):
    return setup_of("cpu", "tiny", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("right", "passed", None),
        ("wrong", "failed", "not true: b holds"),
        ("raises", "failed", "ValueError: no tiny here"),
        ("skips", "skipped", "nothing is installed"),
        ("dies", "failed", "the process ended without an outcome: killed by SIGABRT"),
        ("leaves", "failed", "the process ended without an outcome: exit status 4"),
        ("quits", "failed", "the process ended without an outcome: exit status 0"),
        ("crashes_late", "passed", None),
        ("missing", "failed", "AttributeError: module 'broken_sections' has no attribute 'missing'"),
    ],
)
def test_a_section_ends_in_a_state_with_a_reason(gpu, planned, setup, name, state, reason):
    found = gpu.run_section(planned(name), setup, 20.0)
    assert (found.state, found.reason) == (state, reason)
    assert found.figures == ({"speed, GB/s": 2.5} if name in {"right", "wrong", "crashes_late"} else {})
    assert (found.log is not None) == (state == "failed")
    if name == "wrong":
        assert "shown in the log" in found.log
    if name == "raises":
        assert "Traceback" in found.log


@pytest.mark.slow
def test_a_figure_that_is_no_number_fails_its_section(gpu, planned, setup):
    found = gpu.run_section(planned("undefined"), setup, 20.0)
    assert found.state == "failed"
    assert found.reason.startswith("ValidationError")
    assert "finite number" in found.reason


@pytest.mark.slow
def test_a_section_that_takes_too_long_is_ended_with_all_that_it_started(gpu, planned, setup):
    begun = time.monotonic()
    found = gpu.run_section(planned("hangs"), setup, 4.0)
    assert (found.state, found.reason) == ("failed", "not done after 4.0 s")
    assert time.monotonic() - begun < 20
    child = int(found.log)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":  # killed, and not yet reaped by init
            return
        time.sleep(0.05)
    pytest.fail("the child of the section still runs")


def test_no_section_begins_when_the_time_is_over(gpu, planned, setup):
    found = list(gpu.run_sections([planned("right"), planned("hangs")], setup, total=0.0))
    assert [each.state for each in found] == ["failed", "failed"]
    assert {each.reason for each in found} == {"no time was left for it"}


def test_the_limits_fit_into_eight_minutes_and_leave_time_for_the_last_section(gpu):
    *before, last = gpu.SECTIONS
    assert gpu.TOTAL <= 480
    assert sum(each.limit for each in before) + last.limit / 2 <= gpu.TOTAL


@pytest.mark.slow
def test_a_check_goes_on_after_a_failure_and_reports_after_each_section(gpu, planned):
    reports = []
    gpu.check("cpu", "tiny", [planned("raises"), planned("skips"), planned("right")], reports.append)
    assert [[each.name for each in report.sections] for report in reports] == [
        ["raises"],
        ["raises", "skips"],
        ["raises", "skips", "right"],
    ]
    assert [report.waiting for report in reports] == [2, 1, 0]
    assert reports[-1].machine.packages["torch"] == importlib.import_module("torch").__version__


@pytest.fixture(scope="module")
def small(gpu, tmp_path_factory):
    """Return a setup whose tiny model has been made."""
    setup = setup_of("cpu", "tiny", str(tmp_path_factory.mktemp("gpu")))
    found = importlib.import_module("measurements.gpu.shapes").make(setup)
    assert found.figures["parameters"] > 0
    return setup


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moves", "noise", "texts", "speed", "flops", "memory"])
def test_a_section_passes_on_a_cpu(gpu, small, name):
    (section,) = (each for each in gpu.SECTIONS if each.name == name)
    module, _, function = section.target.partition(":")
    found = getattr(importlib.import_module(module), function)(small)
    assert all(found.checks.values()), found.checks
    assert bool(found.checks) == (name not in {"speed", "memory"})
    assert found.figures
    assert all(value >= 0 for value in found.figures.values())


@pytest.mark.slow
def test_wrong_noise_is_found(gpu, small, monkeypatch):
    moves = importlib.import_module("measurements.gpu.moves")
    monkeypatch.setattr(moves.noise_torch, "sums", lambda keys, weights, start, out: out.fill_(0.5))
    assert moves.noise(small).checks == {
        "device kernel: the bytes of NumPy": False,
        "compiled kernel: the bytes of NumPy": True,
    }


@pytest.mark.slow
def test_a_move_that_leaves_the_base_changed_is_found(gpu, small, monkeypatch):
    moves = importlib.import_module("measurements.gpu.moves")
    move_to = moves.WeightSpace.move_to

    def off(space, point):
        move_to(space, point)
        if point.is_base:
            next(iter(space._live.values())).flatten()[0] += 1

    monkeypatch.setattr(moves.WeightSpace, "move_to", off)
    monkeypatch.setattr(moves, "time_moves", lambda *_: moves_of_a_second())

    def moves_of_a_second():
        return importlib.import_module("measurements.weights").Moves(1, 1, 1, 1)

    assert moves.moves(small).checks == {
        "a move changes the weights": True,
        "a point has the bytes that it has on a CPU": True,
        "a point has the same bytes by another way": True,
        "the way back restores the base's bytes": False,
    }


def test_sections_are_skipped_without_the_libraries_that_they_need(gpu, setup, monkeypatch):
    schema = importlib.import_module("measurements.gpu.schema")
    training = importlib.import_module("measurements.gpu.training")
    engine = importlib.import_module("measurements.gpu.vllm_engine")
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "measurements.training", raising=False)
    monkeypatch.delattr(importlib.import_module("measurements"), "training", raising=False)
    with pytest.raises(schema.Skipped, match=r"trl is not installed; pip install"):
        training.flops(setup)
    monkeypatch.setattr(engine, "installed", lambda: None)
    with pytest.raises(schema.Skipped, match="vllm is not installed"):
        engine.vllm(setup)


@pytest.mark.slow
def test_the_command_writes_a_report_and_prints_it(gpu, tmp_path):
    """Makes the model, and runs corp on tiny-adder."""
    file = tmp_path / "gpu.json"
    done = CliRunner().invoke(main(), ["--device", "cpu", "--shape", "tiny", "--only", "run", "-o", str(file)])
    assert done.exit_code == 0, done.output + file.read_text()
    report = json.loads(file.read_text())
    assert [(each["name"], each["state"]) for each in report["sections"]] == [("model", "passed"), ("run", "passed")]
    figures = report["sections"][1]["figures"]
    assert set(figures) == {"base on cpu, accuracy", "corp on cpu, accuracy"}
    assert report["waiting"] == 0
    assert f"base on cpu, accuracy {figures['base on cpu, accuracy']:.4g}" in " ".join(done.output.split())
    tables = CliRunner().invoke(main(), ["--report", str(file)]).output
    assert "| section | state | seconds | checks | reason |\n| --- |" in tables
    assert f"| run | base on cpu, accuracy | {figures['base on cpu, accuracy']:.4g} |" in tables


@pytest.mark.slow
def test_the_exit_status_tells_of_a_failure(gpu, planned, tmp_path, monkeypatch):
    file = tmp_path / "gpu.json"
    monkeypatch.setattr(importlib.import_module("measurements.gpu.__main__"), "SECTIONS", [planned("wrong")])
    done = CliRunner().invoke(main(), ["--device", "cpu", "-o", str(file)])
    assert done.exit_code == 1
    assert "not true: b holds" in done.output
    assert json.loads(file.read_text())["sections"][0]["checks"] == {"a holds": True, "b holds": False}


def main():
    return importlib.import_module("measurements.gpu.__main__").main


def test_a_file_that_is_no_report_is_refused_by_field(gpu, tmp_path):
    file = tmp_path / "gpu.json"
    file.write_text('{"schema_version": 2}')
    done = CliRunner().invoke(main(), ["--report", str(file)])
    assert done.exit_code == 1
    assert "schema_version: expected 1 (given 2)" in done.output
    assert "shape" in done.output


def test_a_device_that_does_not_exist_is_refused(gpu, tmp_path):
    done = CliRunner().invoke(main(), ["--device", "cuda:99", "-o", str(tmp_path / "gpu.json")])
    assert done.exit_code == 1
    assert "--device cuda:99: this torch has no such device" in done.output
    assert not (tmp_path / "gpu.json").exists()
