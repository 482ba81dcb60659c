import importlib.util
import json

import pytest
import yaml

from bench.errors import BenchError, Refused, UsageError
from bench.records.schema import RunConfig
from bench.run import launch
from bench.run.grid import expand
from bench.run.launch import hand_over, read_launch
from bench.run.launch_worker import _join
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

TWO = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_machines": 1, "num_processes": 2}
GRID = {"methods": ["grpo"], "tasks": ["addition"], "models": ["tiny-adder"], "budgets": ["800"], "seeds": [0]}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "accelerate.yaml"
        content = {key: value for key, value in (TWO | changes).items() if value is not None}
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_what_the_file_says_is_kept_with_the_run_and_not_its_name(write):
    path = write(mixed_precision="no")
    (config,) = expand(**GRID, settings=[], launch="accelerate", launch_config=path)
    assert config.launch == TWO | {"mixed_precision": "no"}
    assert config.processes == 2
    (alone,) = expand(**GRID, settings=[])
    assert (alone.launch, alone.processes) == (None, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_processes": 1}, UsageError, "num_processes is 1; 2 or more"),
        ({"num_processes": None}, UsageError, "num_processes is None"),
        ({"num_machines": 2}, Refused, "num_machines is 2; .* share one machine"),
        ({"distributed_type": "FSDP"}, Refused, "'FSDP'; every process holds the whole model"),
        ({"distributed_type": "DEEPSPEED"}, Refused, "neither saved nor resumed"),
        ({"distributed_type": "MULTI_CPU"}, UsageError, "starts one process .* MULTI_GPU starts them all"),
        ({"mixed_precision": "fp16"}, Refused, "mixed_precision is 'fp16'; take 'no'"),
        ({"nonsense": 3}, UsageError, "accelerate cannot read it: .*nonsense"),
    ],
)
def test_what_cannot_be_launched_is_said_before_anything_runs(write, changes, error, message):
    with pytest.raises(error, match=f"(?s)accelerate.yaml: .*{message}"):
        read_launch("accelerate", write(**changes))


def test_a_file_must_exist_and_be_asked_for(tmp_path, write, monkeypatch):
    with pytest.raises(UsageError, match=r"missing.yaml: there is no such file$"):
        read_launch("accelerate", tmp_path / "missing.yaml")
    with pytest.raises(UsageError, match="read with --launch accelerate"):
        read_launch(None, write())
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(tmp_path / "default.yaml"))
    with pytest.raises(UsageError, match=r"default.yaml: there is no such file; `accelerate config` writes it"):
        read_launch("accelerate", None)
    write().rename(tmp_path / "default.yaml")
    assert read_launch("accelerate", None) == TWO


def test_without_accelerate_there_is_no_launch(write, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match="needs accelerate: pip install"):
        read_launch("accelerate", write())


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"method": "corp"}, Refused, "corp has no gradient training to launch in 2 processes"),
        ({"method": "grpo", "device": "cuda:1"}, UsageError, "cuda:1: launched processes take a device each"),
    ],
)
def test_a_run_that_cannot_be_launched_is_refused(tmp_path, fields, error, message):
    config = RunConfig(task="addition", model="tiny-adder", budget="800", launch=TWO, **fields)
    with pytest.raises(error, match=message):
        prepare(config, tmp_path, ProgressDisplay(quiet=True))


def test_a_launch_that_trained_nothing_is_a_failure_and_no_reason_to_train_alone(tmp_path, monkeypatch):
    config = RunConfig(method="grpo", task="addition", model="tiny-adder", budget="800", limit=5, launch=TWO)
    monkeypatch.setattr("bench.run.runner.hand_over", lambda folder, launch: None)
    result = execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    assert (result.status, "train" in result.ledger) == ("failed", False)
    assert "journalled no end of training" in result.reason


def test_as_many_processes_must_start_as_the_run_counts_on():
    with pytest.raises(UsageError, match="started 1 process where num_processes is 2"):
        _join(RunConfig(task="addition", model="tiny-adder", device="cpu", launch=TWO))


def test_a_failure_says_why_the_first_process_failed(tmp_path, monkeypatch):
    launcher = tmp_path / "launcher"
    monkeypatch.setattr(launch.sys, "executable", str(launcher))

    def fail(script):
        launcher.write_text(f"#!/bin/sh\n{script}\nexit 3\n")
        launcher.chmod(0o755)
        with pytest.raises(BenchError, match="a training process failed") as caught:
            hand_over(tmp_path, TWO)
        return str(caught.value)

    training = tmp_path / "training"
    assert "MemoryError: too large (see" in fail(f"echo 'MemoryError: too large' > {training / launch.FAILURE}")
    assert "accelerate launch ended with status 3 (see" in fail("echo words >&2")
    assert "accelerate launch ended with status 3 (see" in fail(f": > {training / launch.FAILURE}")
    assert "words" in (training / launch.LOG).read_text()
    assert json.loads((training / launch.CONFIG).read_text()) == {"main_process_port": 0} | TWO
