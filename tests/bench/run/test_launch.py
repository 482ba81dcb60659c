import importlib.util
import json

import pytest
import yaml

from bench.errors import BenchError, Refused, UsageError
from bench.records.schema import RunConfig
from bench.run import launch
from bench.run.grid import expand
from bench.run.launch import launch_training, read_launch
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


def test_the_content_of_the_launch_file_is_stored_with_the_run(write):
    path = write(mixed_precision="no")
    (run,) = expand(**GRID, launch="accelerate", launch_config=path)
    assert run.config.launch == TWO | {"mixed_precision": "no"}
    assert run.config.processes == 2
    (alone,) = expand(**GRID)
    assert (alone.config.launch, alone.config.processes) == (None, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_processes": 1}, UsageError, "num_processes is 1; set 2 or more"),
        ({"num_processes": None}, UsageError, "num_processes is None"),
        ({"num_machines": 2}, Refused, "num_machines is 2; .* share one machine"),
        ({"distributed_type": "FSDP"}, Refused, "fsdp_version of fsdp_config is None; set 2"),
        ({"distributed_type": "DEEPSPEED"}, Refused, "'DEEPSPEED', which was never tested here; use MULTI_GPU"),
        ({"distributed_type": "MEGATRON_LM"}, Refused, "'MEGATRON_LM'; use MULTI_GPU, .* or FSDP"),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, Refused, "dynamo_config is .*INDUCTOR.*; leave it out"),
        ({"parallelism_config": {"parallelism_config_tp_size": 2}}, Refused, "parallelism_config is .*; leave it out"),
        ({"distributed_type": "MULTI_CPU"}, UsageError, "starts one process only; use MULTI_GPU"),
        ({"mixed_precision": "fp16"}, Refused, "mixed_precision is 'fp16'; set 'no'"),
        ({"nonsense": 3}, UsageError, "accelerate cannot read it .*nonsense"),
    ],
)
def test_an_unusable_launch_file_is_an_error_before_anything_runs(write, changes, error, message):
    with pytest.raises(error, match=f"(?s)accelerate.yaml: .*{message}"):
        read_launch("accelerate", write(**changes))


def test_the_launch_file_must_exist_and_needs_the_launch_option(tmp_path, write, monkeypatch):
    with pytest.raises(UsageError, match=r"missing.yaml: there is no such file$"):
        read_launch("accelerate", tmp_path / "missing.yaml")
    with pytest.raises(UsageError, match="read with --launch accelerate"):
        read_launch(None, write())
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(tmp_path / "default.yaml"))
    with pytest.raises(UsageError, match=r"default.yaml: there is no such file; `accelerate config` writes it"):
        read_launch("accelerate", None)
    write().rename(tmp_path / "default.yaml")
    assert read_launch("accelerate", None) == TWO


def test_a_launch_without_accelerate_is_refused(write, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match="needs accelerate: pip install"):
        read_launch("accelerate", write())


def test_a_method_that_cannot_be_launched_refuses_the_run(tmp_path):
    config = RunConfig(method="corp", task="addition", model="tiny-adder", budget="800", launch=TWO)
    prepared = prepare(config, tmp_path, ProgressDisplay(quiet=True))
    assert "corp has no gradient training to launch in 2 processes" in prepared.refusal


def test_a_launch_takes_the_type_of_device_only(tmp_path):
    config = RunConfig(method="grpo", task="addition", model="tiny-adder", budget="800", launch=TWO, device="cuda:1")
    with pytest.raises(UsageError, match="cuda:1: each launched process takes its own device"):
        prepare(config, tmp_path, ProgressDisplay(quiet=True))


def test_a_launch_that_trained_nothing_fails_the_run_without_a_fallback(tmp_path, monkeypatch):
    config = RunConfig(method="grpo", task="addition", model="tiny-adder", budget="800", limit=5, launch=TWO)
    monkeypatch.setattr("bench.run.runner.launch_training", lambda folder, launch: None)
    result = execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    assert (result.status, "train" in result.ledger) == ("failed", False)
    assert "without writing the end of training" in result.reason


def test_a_wrong_number_of_started_processes_is_an_error():
    with pytest.raises(UsageError, match="started 1 process, but num_processes is 2"):
        _join(RunConfig(task="addition", model="tiny-adder", device="cpu", launch=TWO))


def test_the_error_of_a_failed_launch_quotes_the_first_failed_process(tmp_path, monkeypatch):
    launcher = tmp_path / "launcher"
    monkeypatch.setattr(launch.sys, "executable", str(launcher))

    def fail(script):
        launcher.write_text(f"#!/bin/sh\n{script}\nexit 3\n")
        launcher.chmod(0o755)
        with pytest.raises(BenchError, match="a training process failed") as caught:
            launch_training(tmp_path, TWO)
        return str(caught.value)

    training = tmp_path / "training"
    assert "MemoryError: too large (see" in fail(f"echo 'MemoryError: too large' > {training / launch.FAILURE}")
    assert "accelerate launch ended with status 3 (see" in fail("echo words >&2")
    assert "accelerate launch ended with status 3 (see" in fail(f": > {training / launch.FAILURE}")
    assert "words" in (training / launch.LOG).read_text()
    assert json.loads((training / launch.CONFIG).read_text()) == {"main_process_port": 0} | TWO
