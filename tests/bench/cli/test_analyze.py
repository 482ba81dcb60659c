import json

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import UsageError
from bench.records.schema import RunConfig, read_result
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def run(method, task="addition", budget="260", **settings):
        fields = {"method": method, "task": task, "model": "tiny-adder", "budget": budget, "limit": 20}
        prepared = prepare(RunConfig(**fields, method_config=settings), folder, ProgressDisplay(quiet=True))
        assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
        return prepared.folder

    return {
        "landscape": run("landscape"),
        "other": run("landscape", "modular-addition"),
        "corp": run("corp", budget="800", smallest_population=8, attempts=0, sigmas=[0.02]),
        "grpo": run("grpo", budget="600", lr=1e-4),
    }


def analyze(*arguments):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(cli, ["analyze", *map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def test_split_half_prints_80_columns_or_json_and_saves_its_result(runs):
    text = analyze("split-half", runs["landscape"], "--permutations", 19, "--dimensions", 64)
    assert "Other candidates, other examples (sketch of 64 dimensions)" in text
    assert "A step along one half's direction" in text
    # Only tables must fit into 80 columns; the terminal wraps sentences.
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines() if "  " in line)
    data = json.loads(analyze("split-half", runs["landscape"], "--permutations", 19, "--dimensions", 64, "--json"))
    assert data == json.loads((runs["landscape"] / "analysis" / "split-half.json").read_text())
    assert data["shared"]["dimensions"] == 64
    assert [step["sigma"] for step in data["transfer"]] == [5e-4, 1e-3, 2e-3]
    assert data["reproduced"]["subspace"]["p_value"] >= 1 / 20


def test_split_half_reads_populations_of_corp(runs):
    data = json.loads(analyze("split-half", runs["corp"], "--permutations", 9, "--dimensions", 32, "--json"))
    assert data["shared"] is not None
    assert data["transfer"] == []
    assert "bench run -m landscape" in data["notes"][0]
    assert (
        json.loads(analyze("split-half", runs["corp"], "--dimensions", 0, "--permutations", 9, "--json"))["shared"]
        is None
    )


def test_density_compares_gains_across_tasks(runs):
    text = analyze("density", runs["landscape"], runs["other"])
    assert "gains here and on modular-addition" in text
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines() if line.startswith(" "))
    first, second = json.loads(analyze("density", runs["landscape"], runs["other"], "--json"))
    assert first["parameters"] == 333_312
    assert {share["threshold"] for share in first["shares"]} == {0.0, 0.01, 0.02, 0.05}
    assert [s["correlation"]["value"] for s in first["specialisation"]] == [
        s["correlation"]["value"] for s in second["specialisation"]
    ]
    with pytest.raises(UsageError, match="bench run -m landscape"):
        analyze("density", runs["corp"])


def test_gate_and_ledger_read_the_record(runs):
    with pytest.raises(UsageError, match="tested nothing: landscape leaves the base unchanged"):
        analyze("gate", runs["landscape"])
    (gated,) = read_result(runs["grpo"]).gated
    text = analyze("gate", runs["grpo"])
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines()[:2])
    assert gated.gate.reason in text
    (power,) = json.loads(analyze("gate", runs["grpo"], "--json"))["rows"]
    assert 0 < power["keeps_noise"] <= 0.05
    assert (power["items"], power["max_items"]) == (gated.gate.items, gated.gate.max_items)
    assert "█" in analyze("ledger", runs["landscape"])
    assert "not billed" in analyze("ledger", runs["landscape"])
    assert json.loads(analyze("ledger", runs["landscape"], "--json"))["sample"]["flops"] > 0


def test_report_pages_include_the_analyses_and_are_reproducible(runs, tmp_path):
    analyze("split-half", runs["landscape"], "--permutations", 19, "--dimensions", 64)
    analyze("density", runs["landscape"])
    pages = []
    for name in ("one", "two"):
        CliRunner().invoke(cli, ["report", str(runs["landscape"]), "-o", str(tmp_path / name)], standalone_mode=False)
        (page,) = (tmp_path / name / "runs").glob("*.html")
        pages.append(page.read_bytes())
    assert pages[0] == pages[1]
    for heading in ("Split halves", "Density of good perturbations", "Where the compute went"):
        assert heading.encode() in pages[0]
