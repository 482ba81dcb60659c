import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.cli.config_file import planned_runs
from bench.records.schema import Result
from reports.leaderboard.suites import coverage
from reports.record import Record

SUITE = """
method = ["base", "es"]
task = "addition"
model = "tiny-adder"
budget = 2048
seed = [0, 1]
dtype = "float32"
[vary.es]
step = [0.01, 0.02]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return path


def record(run, status="ok", dtype="float32", **fields):
    settings = run.settings.model_dump(mode="json")
    config = run.config.model_copy(update={"method_config": settings, "device": "cpu", "dtype": dtype, **fields})
    result = Result(identity_version=3, id=repr(config), status=status, config=config, engine={"dtype": dtype})
    return Record(result=result)


def test_a_complete_suite_misses_nothing(suite: Path) -> None:
    planned = planned_runs(suite)
    assert len(planned) == 6
    found = coverage("mine", planned, [record(run) for run in planned])
    assert found.text == "suite mine: 6 of 6 planned runs"


def test_missing_runs_are_named(suite: Path) -> None:
    planned = planned_runs(suite)
    found = coverage("mine", planned, [record(run) for run in planned if run.config.method == "base"])
    assert (found.planned, found.found) == (6, 2)
    assert found.missing == ("es on addition, tiny-adder, budget 2048, seed 0, 1",)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({}, 1),
        ({"status": "refused"}, 1),
        ({"status": "failed"}, 0),
        ({"dtype": "bfloat16"}, 0),
        ({"tune": 5}, 0),
        ({"gate": "off"}, 0),
        ({"limit": 10}, 0),
        ({"budget": "2048"}, 1),
        ({"budget": "4096"}, 0),
    ],
)
def test_only_the_planned_run_itself_counts(suite: Path, other, found) -> None:
    planned = planned_runs(suite)[:1]
    assert coverage("mine", planned, [record(planned[0], **other)]).found == found


def test_the_order_of_records_of_several_dtypes_does_not_matter(suite: Path) -> None:
    planned = planned_runs(suite)[:1]
    both = [record(planned[0]), record(planned[0], dtype="bfloat16")]
    assert [coverage("mine", planned, each).found for each in (both, both[::-1], both[1:])] == [1, 1, 0]


def test_the_leaderboard_says_how_complete_a_suite_is(suite: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    runs = tmp_path / "runs"
    command = ["run", "-m", "base", "-t", "addition", "-M", "tiny-adder", "-b", "2048", "--dtype", "float32", "-L", "5"]
    assert runner.invoke(cli, [*command, "-o", str(runs)], catch_exceptions=False).exit_code == 0
    for more, stream in ((["--format", "terminal"], "stdout"), ([], "stderr")):
        done = runner.invoke(cli, ["leaderboard", str(runs), "--suite", str(suite), *more], catch_exceptions=False)
        missing = "suite mine: 0 of 6 planned runs; missing: base on addition"
        assert missing in getattr(done, stream), "the suite has no limit"
    suite.write_text("limit = 5\n" + SUITE)
    asked = ["leaderboard", str(runs), "--suite", str(suite), "--json"]
    (found,) = json.loads(runner.invoke(cli, asked, catch_exceptions=False).stdout)["suites"]
    assert (found["name"], found["planned"], found["found"]) == ("mine", 6, 1)
    assert found["missing"][0] == "base on addition, tiny-adder, budget 2048, seed 1"
