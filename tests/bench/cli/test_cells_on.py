"""Options that say where cells are executed: what is refused, and grids on this machine and on Ray."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cell_runs import grid, records

from bench.cli.cells_on import CellsOn, read_cells_on
from bench.cli.config_file import read_config_file
from bench.engines.placement import Engines
from bench.errors import Refused, UsageError
from bench.run.grid import run_grid
from bench.run.progress import ProgressDisplay
from bench.run.status import read_status


def read(place, at_once=None, time_limit=None, slurm=(), engines=None, address=None, device="cpu", launch=None):
    return read_cells_on(place, at_once, time_limit, slurm, engines, address, device, launch)


def test_without_a_place_cells_are_executed_here_and_its_options_are_errors():
    assert read(None) is None
    for options, message in {
        ("at_once", 2): "--at-once 2: belongs to --cells-on local or slurm or ray, which was not given",
        ("time_limit", 5): "--time-limit 5: belongs to --cells-on slurm, which was not given",
        ("slurm", ("partition=gpu",)): "--slurm partition=gpu: belongs to --cells-on slurm, which was not given",
    }.items():
        with pytest.raises(UsageError) as error:
            read(None, **dict([options]))
        assert str(error.value) == message
    with pytest.raises(UsageError, match="belongs to --cells-on slurm"):
        read("local", time_limit=5)


def test_engines_on_ray_and_cells_elsewhere_are_refused():
    with pytest.raises(UsageError, match="--ray-address auto: the engines of several jobs would compete"):
        read("local", address="auto")


@pytest.mark.parametrize("place", ["local", "ray"])
def test_several_training_processes_are_refused_where_a_cell_gets_one_gpu(place):
    pytest.importorskip({"local": "submitit"}.get(place, place))
    with pytest.raises(UsageError, match=f"--launch accelerate: a cell of --cells-on {place} gets one GPU at most"):
        read(place, device="auto", launch="accelerate")
    assert not read(place, launch="accelerate").gpu
    assert read(place, device="auto").gpu
    assert read(None, device="auto", launch="accelerate") is None


def test_slurm_is_refused_without_its_programs_and_wants_a_time_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="--cells-on slurm: this machine has no sbatch"):
        read("slurm", time_limit=5)
    for program in ("sbatch", "srun", "sacct"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    with pytest.raises(UsageError, match="--cells-on slurm needs --time-limit MINUTES"):
        read("slurm")
    assert read("slurm", time_limit=5, slurm=["mem=4G"]).slurm == {"mem": "4G"}


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    for module, place, extra in (("bench.cells.submitit_jobs", "local", "slurm"), ("bench.cli.cells_on", "ray", "ray")):
        monkeypatch.setattr(f"{module}.find_spec", lambda _: None)
        with pytest.raises(Refused) as error:
            read(place)
        assert str(error.value).startswith(f"--cells-on {place} needs ")
        assert str(error.value).endswith(f": pip install -c requirements/cpu.txt '.[{extra}]'")


def test_a_cell_on_ray_has_an_engine_for_each_of_its_cores():
    place = {"at_once": None, "time_limit": None, "slurm": {}, "address": None, "gpu": False}
    assert CellsOn("ray", count=None, **place).engines == Engines(1)
    assert CellsOn("ray", count=4, **place).engines == Engines(4)
    assert CellsOn("local", count=None, **place).engines == Engines(None)


def test_a_file_may_name_the_place(tmp_path):
    import click

    (tmp_path / "grid.toml").write_text('cells_on = "slurm"\ntime_limit = 60\nslurm = ["partition=gpu"]\n')
    values = read_config_file(tmp_path / "grid.toml", click.Context(click.Command("run")))
    assert values == {"cells_on": "slurm", "time_limit": 60, "slurm": ["partition=gpu"]}


@pytest.mark.slow
def test_cells_on_this_machine_survive_a_killed_worker(tmp_path):
    options = ["-m", "base", "-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "400", "-L", "20", "-s", "0"]
    command = [sys.executable, "-m", "bench", "run", *options, "--dtype", "float32", "--cells-on", "local", "--json"]
    with subprocess.Popen([*command, "-o", tmp_path / "jobs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        killed = None
        while killed is None and run.poll() is None:
            for folder in (tmp_path / "jobs").glob("addition/tiny-adder/es/400/seed-*"):
                if status := read_status(folder):
                    killed = status.pid
                    os.kill(killed, signal.SIGKILL)
            time.sleep(0.01)
        out, err = run.communicate()
    assert run.returncode == 0, err.decode()
    assert [each["result"]["status"] for each in json.loads(out)["runs"]] == ["ok", "ok"]
    assert "its worker died; it goes on in try 2 of 3" in err.decode()
    run_grid(grid(["base", "es"], [0]), tmp_path / "here", lambda _: ProgressDisplay(quiet=True), lambda *_: None)
    assert records(tmp_path / "jobs") == records(tmp_path / "here")
