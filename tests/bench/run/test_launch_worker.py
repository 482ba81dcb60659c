import subprocess
import sys
from dataclasses import dataclass

import pytest

from bench.distributed import ProcessGroup
from bench.records.schema import RunConfig
from bench.run import launch_worker
from bench.run.launch import FAILURE
from methods.interface import Diverged


@dataclass(frozen=True)
class Prepared:
    config: RunConfig
    output: object
    folder: object = None


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that starts the worker in a run directory, with a stand-in for training."""
    folder = tmp_path / "run"
    (folder / "training").mkdir(parents=True)
    config = RunConfig(method="grpo", task="addition", model="tiny-adder", budget="800")
    (folder / "config.json").write_text(config.model_dump_json())
    watched = []
    monkeypatch.setattr(launch_worker, "_exit_with", lambda *others: watched.append(others))
    monkeypatch.setattr(launch_worker, "_join", lambda config: ProcessGroup(1, 2))
    monkeypatch.setattr(launch_worker, "prepare", lambda config, output, display: Prepared(config, output))

    def run(train):
        monkeypatch.setattr(launch_worker, "train_as_worker", train)
        launch_worker.main(folder, 4321)
        return watched

    run.folder, run.config = folder, config
    return run


def test_a_worker_trains_the_run_of_the_folder_with_its_rank(run):
    calls = []
    (watched,) = run(lambda prepared, ranks: calls.append((prepared, ranks)))
    assert calls == [(Prepared(run.config, run.folder.parent, run.folder), ProcessGroup(1, 2))]
    assert watched[0] == 4321
    assert not (run.folder / "training" / FAILURE).exists()


def test_the_first_error_is_written_for_the_run_and_a_later_one_does_not_replace_it(run):
    def fail(text):
        def train(prepared, ranks):
            raise MemoryError(text)

        return train

    for text in ("the first", "the second"):
        with pytest.raises(MemoryError, match=text):
            run(fail(text))
    assert (run.folder / "training" / FAILURE).read_text().endswith("MemoryError: the first\n")


def test_divergence_is_not_an_error_of_the_worker(run):
    def diverge(prepared, ranks):
        raise Diverged("the loss is NaN")

    run(diverge)
    assert not (run.folder / "training" / FAILURE).exists()


def test_a_worker_exits_once_a_process_that_it_watches_has_ended(monkeypatch):
    statuses = []
    monkeypatch.setattr(launch_worker.os, "_exit", statuses.append)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        monkeypatch.setattr(launch_worker.time, "sleep", lambda seconds: ended.stdin.close())
        launch_worker._watch((ended.pid,))
    assert statuses == [1]
