"""`bench status`: cells of runs that are done, running and planned."""

import json
import os
import platform

import pytest
from cell_runs import grid, status
from click.testing import CliRunner

from bench.cells.batch import Batch
from bench.cli import cli
from bench.records.files import write_atomically
from bench.records.schema import find_runs
from bench.run.grid import run_grid
from bench.run.progress import ProgressDisplay, Snapshot
from bench.run.status import STATUS

GRID = """
method = "base"
task = "addition"
model = "tiny-adder"
budget = 400
limit = 20
dtype = "float32"
seed = [0, 1, 2]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run that is done, and one that this process executes."""
    root = tmp_path_factory.mktemp("status")
    run_grid(grid(seeds=[0, 1]), root / "runs", lambda _: ProgressDisplay(quiet=True), lambda *_: None)
    folder = next(each for each in find_runs(root / "runs") if "seed-1" in each.name)
    (folder / "result.json").unlink()
    now = Snapshot("population", "12/64", 0.25, 0.31, 41.0)
    write_atomically(folder / STATUS, status(now=now).model_dump_json())
    (root / "grid.toml").write_text(GRID)
    return root


def shown(*arguments):
    outcome = CliRunner().invoke(cli, ["status", *map(str, arguments)])
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_the_table_has_what_runs_first_and_counts_all(root):
    heading, running, done, counts = shown(root / "runs").splitlines()
    assert heading.split() == ["cell", "state", "best", "spent", "left", "where"]
    assert " ".join(running.split()) == (
        "base on addition, tiny-adder, budget 400, seed 1 running population 12/64 0.250 31 % 0:41 "
        f"{os.getpid()} on {platform.node()}"
    )
    assert "seed 0  done, 65.0 %" in done
    assert counts == "1 running, 1 done"


def test_a_file_of_a_grid_adds_the_cells_that_have_not_begun(root):
    cells = json.loads(shown(root / "runs", "-C", root / "grid.toml", "--json"))["cells"]
    states = {cell["name"][-6:]: cell["state"] for cell in cells}
    assert states == {"seed 0": "ok", "seed 1": "running", "seed 2": "waiting"}
    (done,) = (cell for cell in cells if cell["state"] == "ok")
    assert done["accuracy"] == {"": 0.65}


def test_a_folder_without_runs_says_so_and_watching_ends_when_nothing_runs(tmp_path):
    assert shown(tmp_path) == "no runs\n"
    assert "no runs" in shown(tmp_path, "--watch")
    outcome = CliRunner().invoke(cli, ["status", str(tmp_path), "--watch", "--json"])
    assert outcome.exit_code == 2
    assert "--watch shows a table" in outcome.output


def test_watching_does_not_wait_for_submitted_jobs_alone(tmp_path):
    runs, batch = grid(seeds=[0]), Batch.create(tmp_path)
    batch.write("slurm", [run.title for run in runs], [run.key for run in runs], {0: "81_0"})
    path = batch.path / "cells.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "another"}))
    text = shown(tmp_path, "--watch")
    assert "submitted, not begun" in text
    assert "1 submitted" in text
