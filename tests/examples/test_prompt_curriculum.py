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
    for kind, name in (("methods", "hardest-first"), ("tasks", "carries")):
        assert {"name": name, "description": "from bench-prompt-curriculum"} in listed[kind]


@pytest.mark.slow
def test_its_method_passes_bench_check(site: Path) -> None:
    found = bench("check", "-m", "hardest-first", "--set", "lr=1e-3")
    assert found["passed"]
    assert {f["check"] for f in found["findings"] if f["passed"]} >= {"same seed", "ledger", "resume", "budget"}


@pytest.mark.slow
def test_its_task_passes_bench_check(site: Path) -> None:
    assert bench("check", "-t", "carries", "-L", "12")["passed"]


@pytest.mark.slow
def test_its_method_trains_on_the_prompts_with_the_lowest_reward(site: Path, tmp_path: Path) -> None:
    run = ["-m", "hardest-first", "-t", "carries", "-M", "tiny-adder", "-b", "700", "-L", "20", "-o", str(tmp_path)]
    settings = ["--set", "lr=1e-3", "--set", "batch=16", "--dtype", "float32"]
    training = bench("run", *run, *settings)["runs"][0]["result"]["report"]["training"]
    assert len(training["curriculum"]["rewards"]) == training["steps"] > 5
    assert training["curriculum"]["rewards"] == pytest.approx(training["curve"]["reward"], rel=1e-5)
    assert 2 <= training["curriculum"]["seen"] <= 2 * training["steps"]


def test_the_curriculum_prefers_new_prompts_then_low_rewards_and_resumes(site: Path) -> None:
    from prompt_curriculum.curriculum import LowestReward

    chooser = LowestReward(6, 0, 6)
    for step in range(3):
        chosen = chooser.choose(step, 2)
        chooser.learn(chosen, [place / 10 for place in chosen], [1.0, 1.0])
    assert chooser.report()["seen"] == 6
    assert chooser.choose(3, 3) == [0, 1, 2]
    chooser.learn([0, 1], [float("nan"), 0.9], [0.0, 1.0])
    assert chooser.choose(4, 3) == [0, 2, 3]
    resumed = LowestReward(6, 0, 6)
    resumed.restore(chooser.state())
    assert resumed.choose(5, 3) == chooser.choose(5, 3)
    assert resumed.report() == chooser.report()
    assert sorted(LowestReward(2, 0, 1).choose(0, 4)) != []  # more prompts than there are
