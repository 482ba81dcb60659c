"""Frames of a few records: hostile values, unreadable records, run directories with texts and journals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bench
from bench.cli import cli
from bench.errors import BenchError, Refused, UsageError
from bench.records.rows import PassAtK
from bench.records.schema import Result as RunResult
from reports.frames import tables
from reports.frames.history import candidates, curves
from reports.frames.lines import coverage, ledger, rows, runs, samples, tuning
from reports.record import Record

RECORDS = Path(__file__).parents[3] / "reports" / "records"


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False, catch_exceptions=False)


@pytest.fixture(scope="module")
def record() -> Record:
    """Record of a randopt run."""
    path = min((RECORDS / "addition").rglob("randopt/*/seed-*.json"))
    return Record.model_validate_json(path.read_bytes())


def with_report(record: Record, report: dict[str, Any]) -> Record:
    return record.model_copy(update={"result": record.result.model_copy(update={"report": report})})


def test_a_record_file_has_verdicts_and_no_texts(record: Record) -> None:
    blocks = list(samples(record, ()))
    assert [block["row"] for block in blocks] == [i for i, row in enumerate(record.result.rows) if row.kind != "gated"]
    assert blocks[0]["method"] == "base"
    assert {block["method"] for block in blocks[1:]} == {"randopt"}
    assert blocks[1]["correct"] == [verdict == "1" for verdict in record.verdicts[1]]
    assert all("text" not in block for block in blocks)


def test_candidates_come_from_reports_of_the_run_and_of_its_trials(record: Record) -> None:
    population = {"scores": [0.5, None, 0.25], "sigmas": [1, 2, 3], "ranked": [0, 2], "examples": 8}
    stage1 = {"rewards": [0.1, 0.2], "sigmas": [1.0, 1.0], "elite": [1], "weights": [1.0], "asked": [4, 8]}
    rounds = [{"scores": [0.5, 0.75], "voters": [1]}, {"eta": 0.1}]
    trials = [{"rung": 1, "trial": 2, "report": {"stage1": stage1}}]
    made = with_report(record, {**population, "sigma": 0.5, "rounds": rounds, "tuning": {"trials": trials}})
    of_trial, final, of_round = candidates(made)
    assert (of_trial["rung"], of_trial["trial"]) == (1, 2)
    assert (of_trial["examples"], of_trial["weight"]) == ([4, 8], [None, 1.0])
    assert (final["reward"], final["rank"], final["examples"]) == ([0.5, None, 0.25], [1, None, 2], [8, 8, 8])
    assert "rung" not in final
    assert (of_round["round"], of_round["reward"], of_round["rank"]) == (1, [0.5, 0.75], [None, 1])


def test_candidates_of_es_come_from_the_journal_by_iteration(record: Record) -> None:
    def scored(first: int, *rewards: float | None, **key: Any) -> dict[str, Any]:
        named = {"score": f"support {first}", "n": len(rewards), "account": "sample", **key}
        return {"key": named, "value": {"rewards": list(rewards), "complete": True}}

    entries = [
        scored(0, 1.0, 0.0, trial=[1, 0]),
        scored(0, 1.0, 0.0),
        scored(0, None, None),
        scored(0, 1.0, None),
        {"key": {"answer": "gate 0", "account": "gate"}, "value": {"answers": []}},
        scored(0, 0.0, 0.0),
        {"key": {"score": "support 0"}, "value": {"rewards": "all"}},
    ]
    iterations = [{"candidates": 2, "examples": [0, 2]}, {"candidates": 1, "examples": [0, 2]}]
    made = with_report(record, {"sigma": 0.5, "trajectory": iterations})
    first, second = candidates(made, entries)
    assert (first["round"], first["reward"], first["examples"], first["sigma"]) == (1, [0.5, None, 1.0], 2, 0.5)
    assert (second["round"], second["reward"]) == (2, [0.0])
    assert list(candidates(made)) == []


def test_curves_are_long(record: Record) -> None:
    training = {"curve": {"step": [2, 4], "reward": [0.5, None]}}
    rounds = [{"training": training}, {"ended": "nobody voted"}]
    (of_round,) = curves(with_report(record, {"rounds": rounds, "training": training}))
    assert (of_round["round"], of_round["step"], of_round["quantity"]) == (1, [2, 4], "reward")
    assert of_round["value"] == [0.5, None]
    trajectory = [{"mean": 0.5, "examples": [0, 8]}, {"mean": 0.75, "max": 1.0}]
    mean, largest = curves(with_report(record, {"trajectory": trajectory}))
    assert (mean["quantity"], mean["step"], mean["value"]) == ("mean", [1, 2], [0.5, 0.75])
    assert (largest["quantity"], largest["step"], largest["value"]) == ("max", [2], [1.0])


def test_pass_at_k_has_a_line_for_each_k(record: Record) -> None:
    cost = record.result.rows[0].cost
    known = {"samples": 4, "items": 10, "excluded": 1, "low": 0.1, "high": 0.9, "cost": cost}
    one, two = (PassAtK(k=k, value=k / 4, **known) for k in (1, 2))
    row = record.result.rows[0].model_copy(update={"coverage": two, "curve": (one,)})
    result = record.result.model_copy(update={"rows": (row, *record.result.rows[1:])})
    found = list(coverage(record.model_copy(update={"result": result})))
    assert [(line["method"], line["k"], line["value"], line["samples"]) for line in found] == [
        ("base", 1, 0.25, 4),
        ("base", 2, 0.5, 4),
    ]
    assert (found[0]["passes"], found[0]["answer_flops"], found[0]["difference"]) == (1.0, cost.flops, None)


def test_a_failed_run_is_a_line_of_runs_alone(record: Record) -> None:
    config = record.result.config
    failed = RunResult(identity_version=3, id="0" * 64, status="failed", reason="out of memory", config=config)
    made = Record(result=failed)
    line = runs(made)
    assert (line["status"], line["reason"], line["items"], line["flops"]) == ("failed", "out of memory", 0, 0)
    assert (line["budget_flops"], line["model_digest"], line["seconds"]) == (None, None, None)
    assert [*rows(made), *samples(made, ()), *ledger(made), *tuning(made)] == []


@pytest.mark.parametrize(
    "report",
    [
        {"scores": "many", "sigmas": [1]},
        {"stage1": [1], "rounds": 3, "trajectory": {"mean": 1}, "training": None},
        {"tuning": {"trials": [{"rung": "1", "trial": 0, "report": {}}, 7]}},
        {"rewards": {"default": 0.5}, "tuning": []},
        {"training": {"curve": {"step": [1, 2.5], "reward": [0.5, 0.75]}}},
        {"trajectory": [{"mean": "high", "max": True, "candidates": "two", "examples": [0]}]},
    ],
)
def test_reports_in_other_shapes_give_no_lines(record: Record, report: dict[str, Any]) -> None:
    made = with_report(record, report)
    assert [*candidates(made), *curves(made)] == []


def test_values_that_arrow_lacks() -> None:
    pytest.importorskip("pyarrow")
    from reports.frames.frames import _arrays

    made = _arrays(tables.SAMPLES, {"text": ["\ud83d", "\U0001f600", None], "item": range(3), "row": 1}, "a run")
    names = [column.name for column in tables.SAMPLES.columns]
    assert made[names.index("text")].to_pylist() == ["\\ud83d", "\U0001f600", None]
    assert made[names.index("row")].to_pylist() == [1, 1, 1]
    assert made[names.index("answer")].to_pylist() == [None, None, None]
    products = [array.to_pylist() for array in _arrays(tables.LEDGER, {"products": 10**30}, "a run")]
    assert [1e30] in products
    with pytest.raises(BenchError, match=r"^a run: attended of ledger has 10+; expected an integer"):
        _arrays(tables.LEDGER, {"attended": [1, None, 10**30]}, "a run")
    with pytest.raises(KeyError, match="tokens"):
        _arrays(tables.LEDGER, {"tokens": 1}, "a run")


def test_an_unreadable_record_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    good, other = sorted((RECORDS / "addition").rglob("base/*/seed-*.json"))[:2]
    shutil.copy(good, tmp_path)
    edited = json.loads(other.read_bytes())
    edited["result"]["rows"][0]["accuracy"]["correct"] += 1
    (tmp_path / other.name).write_text(json.dumps(edited))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    done = invoke("export-data", tmp_path, "-o", tmp_path / "data")
    assert done.return_value == 1
    assert f"left out: {tmp_path / other.name}" in done.stderr
    assert "runs.parquet: 1 line, " in done.stdout
    assert len(pandas.read_parquet(tmp_path / "data" / "runs.parquet")) == 1
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"
    with pytest.warns(UserWarning, match=other.name):
        assert len(bench.read(tmp_path).runs) == 1


def test_paths_are_given_one_by_one_or_as_iterables(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    one, two, *_ = sorted((RECORDS / "successor").rglob("seed-*.json"))
    expected = bench.read(one, two).runs
    assert len(expected) == 2
    assert bench.read([one, str(two)]).runs.equals(expected)
    assert bench.read(path for path in (one, two)).runs.equals(expected)
    with pytest.raises(UsageError, match="no path is given"):
        bench.read([])


def test_the_model_of_a_server_has_its_mark_in_each_table(record: Record) -> None:
    config = record.result.config.model_copy(update={"engine": "endpoint"})
    served = record.model_copy(update={"result": record.result.model_copy(update={"config": config})})
    for made in (runs(served), *rows(served), *samples(served, ()), *ledger(served)):
        assert made["model"] == "tiny-adder (declared, not verified)"
    assert runs(record)["model"] == "tiny-adder"


def test_paths_without_runs_are_errors(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    with pytest.raises(UsageError, match="no finished run"):
        bench.read(tmp_path)
    with pytest.raises(UsageError, match="missing: there is no such file or folder"):
        bench.read(RECORDS / "successor", tmp_path / "missing")


def test_without_pandas_the_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Refused, match=r"^data frames need pandas: pip install -c requirements/cpu.txt '.\[data\]'$"):
        invoke("export-data", RECORDS, "-o", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_importing_bench_imports_no_table_library() -> None:
    code = "import bench, sys; print(sorted({'pandas', 'pyarrow', 'numpy', 'reports'} & set(sys.modules)), bench.read)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] <function read")


@pytest.mark.slow
def test_a_run_directory_has_texts_and_the_candidates_of_es(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    invoke("run", "-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "400", "-L", "8", "-o", tmp_path)
    (folder,) = tmp_path.rglob("seed-*")
    frames = bench.read(tmp_path)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(frames.samples) == len(lines) == 16
    for name in ("row", "method", "label", "id", "text", "gold", "correct", "reward", "new_tokens", "finish"):
        assert frames.samples[name].tolist() == [line[name] for line in lines]
    assert frames.samples.prompt[0] == f"user: {lines[0]['prompt'][0]['content']}"
    assert frames.samples["item"].tolist() == [*range(8), *range(8)]
    trajectory = json.loads((folder / "result.json").read_bytes())["report"]["trajectory"]
    means = frames.candidates.groupby("round").reward.mean()
    assert frames.candidates.groupby("round").reward.count().tolist() == [each["candidates"] for each in trajectory]
    assert means.tolist() == pytest.approx([each["mean"] for each in trajectory], abs=1e-12)
    largest = frames.candidates.groupby("round").reward.max()
    assert largest.tolist() == [each["max"] for each in trajectory]
    assert len(trajectory) > 1
    of_mean = frames.curves[frames.curves.quantity == "mean"]
    assert of_mean["value"].tolist() == [each["mean"] for each in trajectory]
