"""The sample package, installed with pip and found by its entry points."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.registry import names

PACKAGE = Path(__file__).parents[2] / "examples" / "prompt-curriculum"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the package into a folder on the import path."""
    folder = tmp_path_factory.mktemp("site")
    # A copy, because the build writes into the source folder.
    source = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "package")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        names.cache_clear()
        yield folder
    names.cache_clear()


def bench(*arguments: str) -> Any:
    outcome = CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False, catch_exceptions=False)
    assert outcome.return_value in (0, None), outcome.stdout
    return json.loads(outcome.stdout)


def test_its_method_and_task_are_listed(site: Path) -> None:
    listed = bench("list")
    for kind, name in (("methods", "pcl"), ("tasks", "carries")):
        assert {"name": name, "description": "from bench-prompt-curriculum"} in listed[kind]


@pytest.mark.slow
def test_its_method_passes_bench_check(site: Path) -> None:
    found = bench("check", "-m", "pcl", "--set", "lr=1e-3")
    assert found["passed"]
    assert {f["check"] for f in found["findings"] if f["passed"]} >= {"same seed", "ledger", "resume", "budget"}


@pytest.mark.slow
def test_its_task_passes_bench_check(site: Path) -> None:
    assert bench("check", "-t", "carries", "-L", "12")["passed"]


@pytest.mark.slow
def test_its_method_trains_on_candidates_near_the_threshold_and_is_billed_for_their_passes(
    site: Path, tmp_path: Path
) -> None:
    run = ["-m", "pcl", "-t", "carries", "-M", "tiny-adder", "-b", "700", "-L", "20", "-o", str(tmp_path)]
    settings = ["--set", "lr=1e-3", "--set", "batch=16", "--dtype", "float32"]
    training = bench("run", *run, *settings)["runs"][0]["result"]["report"]["training"]
    curriculum = training["curriculum"]
    assert len(curriculum["expected"]) == training["steps"] > 5
    assert curriculum["expected"][0] == 0.5  # before any observation
    assert max(abs(e - 0.5) for e in curriculum["expected"]) < 0.5
    # The candidates' passes cover prompts without answers, so they cost less than the rollouts.
    assert 0 < training["phases"]["logprobs"] < training["phases"]["rollout"]


def test_the_value_estimate_learns_and_forgets(site: Path) -> None:
    import numpy as np
    import torch
    from prompt_curriculum.curriculum import IntermediateDifficulty

    class Session:
        """Session in which the hidden state of a prompt is one of two axes, by the parity of its number."""

        batch_size = 5
        prompts = tuple(type("FormattedPrompt", (), {"token_ids": (n,)})() for n in range(40))
        tokenizer = type("Tokenizer", (), {"pad_token_id": 0})()

        class model:  # noqa: N801
            config = type("Config", (), {"hidden_size": 2})()
            device = "cpu"

            def __new__(cls, input_ids: torch.Tensor, **_: Any) -> Any:
                even = (input_ids % 2 == 0).double()
                return type("Output", (), {"hidden_states": [torch.stack([even, 1 - even], dim=-1)]})()

    def train(rewards: tuple[float, float], chooser: IntermediateDifficulty, steps: range) -> IntermediateDifficulty:
        for step in steps:
            chosen = chooser.choose(step, 8)
            chooser.learn(chosen, [rewards[place % 2] for place in chosen], [])
        return chooser

    chooser = train((0.5, 0.0), IntermediateDifficulty(Session(), 0, 4, 0.5, 0.1, 0.5), range(10))  # type: ignore[arg-type]
    assert {place % 2 for place in chooser.choose(10, 8)} == {0}
    resumed = IntermediateDifficulty(Session(), 0, 4, 0.5, 0.1, 0.5)  # type: ignore[arg-type]
    resumed.restore(chooser.state())
    assert resumed.choose(11, 8) == chooser.choose(11, 8)
    assert resumed.report() == chooser.report()
    train((0.0, 0.5), chooser, range(11, 40))
    assert {place % 2 for place in chooser.choose(40, 8)} == {1}
    chooser.learn(chosen := chooser.choose(41, 8), [float("nan")] * len(chosen), [])
    assert np.isfinite(chooser.state()["moments"].numpy()).all()
