"""The command in a card gives the configuration that it was made from."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from bench.cli.config_file import config_option
from bench.cli.options import run_options
from bench.hub.command import run_command
from bench.records.config import RunConfig
from bench.records.source import DeclaredSource
from bench.run.grid import expand


def config_of(command: str) -> RunConfig:
    parser = click.command()(run_options(config_option(lambda: None)))
    (run,) = expand(**parser.make_context("bench run", shlex.split(command)[2:]).params)
    return run.config


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("es", {}),
        ("corp", {"method_config": {"rank": 4, "sigmas": [0.1], "noise": "tied"}, "budget": "1e9flops", "seed": 3}),
        ("randopt", {"method_config": {"population": 8}, "limit": 60, "dtype": "float32", "device": "cpu"}),
        ("base", {"strategy": "pass@1,4", "shots": 2, "shots_seed": 1, "allow_unsandboxed": True, "gate": "off"}),
        ("kdrl", {"method_config": {"teacher": "tiny-adder"}, "tune": 2}),
    ],
)
def test_the_command_of_a_run_repeats_its_configuration(method: str, fields: dict[str, Any]) -> None:
    words = ["bench", "run", "-t", "addition", "-M", "tiny-adder", "-m", method]
    for name, value in fields.get("method_config", {}).items():
        words += ["--set", f"{method}.{name}={value}"]
    config = config_of(shlex.join(words))
    fields = {name: value for name, value in fields.items() if name != "method_config"}
    config = config.model_copy(update=fields)
    command = run_command(config)
    assert command is not None
    assert config_of(command) == config


def test_the_command_leaves_out_defaults() -> None:
    config = config_of("bench run -t addition -M tiny-adder -m corp -b 400 --set corp.rank=4")
    assert run_command(config) == "bench run -m corp -t addition -M tiny-adder -b 400 -s 0 --set corp.rank=4"


def test_a_run_that_needs_more_than_a_command_has_none() -> None:
    config = RunConfig(task="addition", model="tiny-adder")
    assert run_command(config.model_copy(update={"system": "be brief"})) is None
    declared = DeclaredSource(folder="x", flops=1, sha256="0" * 64)
    assert run_command(config.model_copy(update={"source": declared})) is None


def test_a_file_is_named_without_its_folder(tmp_path: Any) -> None:
    config = RunConfig(task="jsonl", model="tiny-adder", data=str(tmp_path / "rows.jsonl"))
    assert "--data rows.jsonl" in str(run_command(config))
