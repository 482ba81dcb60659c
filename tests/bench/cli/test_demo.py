import json

import pytest
from click.testing import CliRunner

from bench.cli import cli, demo
from bench.records.schema import find_runs, read_result


def invoke(*arguments):
    return CliRunner().invoke(cli, ["demo", *map(str, arguments)], standalone_mode=False, catch_exceptions=False)


@pytest.fixture
def small(monkeypatch):
    """The demo at a size for tests, on a machine without the extra for training."""
    for name, value in {"METHODS": ("base", "randopt"), "BUDGET": "smoke"}.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "find_spec", lambda _: None)


def test_the_grid_has_each_method_with_one_budget_and_published_settings():
    runs = demo.grid([*demo.METHODS, demo.TRAINED])
    assert [run.config.method for run in runs] == [*demo.METHODS, demo.TRAINED]
    assert {(run.config.budget, run.config.seed, run.config.device) for run in runs} == {(demo.BUDGET, 0, "cpu")}
    assert {key for run in runs for key in run.config.method_config} == {"top_k"}


def test_it_ends_with_the_board_how_to_read_it_and_a_page(small, tmp_path):
    done = invoke("-o", tmp_path)
    assert done.return_value == 0, done.stderr
    assert "without grpo: it needs pip install" in done.stderr
    assert "randopt k=5" in done.stdout
    assert "the same budget of" in done.stderr
    page = tmp_path / "report" / "index.html"
    assert done.stderr.splitlines()[-1] == f"page to open: {page}"
    assert "randopt k=5" in page.read_text()
    results = [read_result(folder) for folder in find_runs(tmp_path)]
    assert {result.status for result in results} == {"ok"}
    assert len({result.budget.flops for result in results}) == 1  # equal FLOPs


def test_a_file_gets_data_alone(small, tmp_path):
    rows = [line.split("\t") for line in invoke("-o", tmp_path).stdout.splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[1][rows[0].index("name")] == "base"


def test_a_second_call_finds_the_runs_done(small, tmp_path):
    invoke("-o", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    again = json.loads(invoke("-o", tmp_path, "--json").stdout)["runs"]
    assert len(again) == len(before) == 2
    assert all(run["cached"] for run in again)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == before


def test_where_the_extra_for_training_is_installed_its_method_joins(small, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda _: object())
    monkeypatch.setattr(demo, "TRAINED", "es")  # takes no gradient, and so no second for importing a trainer
    done = invoke("-o", tmp_path, "--json")
    assert [run["result"]["config"]["method"] for run in json.loads(done.stdout)["runs"]] == ["base", "randopt", "es"]
    assert "without" not in done.stderr


def test_without_the_libraries_for_models_one_line_says_how_to_install_them(small, monkeypatch, tmp_path):
    monkeypatch.setattr("bench.run.prepare.importlib.util.find_spec", lambda _: None)
    done = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)])
    assert done.exit_code == 1
    assert "pip install -c requirements/cpu.txt '.[local]'" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
