"""The committed records as data frames, and as parquet files read back: all numbers, and all lines."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import bench
from bench.cli import cli
from reports.frames.tables import TABLES
from reports.leaderboard.build import make_board
from reports.leaderboard.text import as_csv
from reports.reading import find_records, read_records

if TYPE_CHECKING:
    import pandas

    from reports.frames import Frames

pytestmark = pytest.mark.slow

RECORDS = Path(__file__).parents[3] / "reports" / "records"


@pytest.fixture(scope="module")
def frames() -> Frames:
    pytest.importorskip("pandas")
    return bench.read(RECORDS)


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    """Content of each record file by the id of its run."""
    found = [json.loads(path.read_bytes()) for path in sorted(RECORDS.rglob("seed-*.json"))]
    return {record["result"]["id"]: record for record in found}


def named(frame: pandas.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """Return the values of some columns, None for a missing one, line by line."""
    whole = frame[list(names)].astype(object)
    return list(whole.where(frame[list(names)].notna(), None).itertuples(index=False, name=None))


def test_parquet_files_equal_the_frames(frames: Frames, tmp_path: Path) -> None:
    import pandas
    from pyarrow import parquet

    from reports.frames import write

    paths = write(frames, tmp_path / "data")
    written = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert written == sorted(f"{table.name}.parquet" for table in TABLES)
    for table in TABLES:
        back, frame = pandas.read_parquet(paths[table.name]), frames.tables[table.name]
        assert back.equals(frame)
        assert back.dtypes.to_dict() == frame.dtypes.to_dict()
        schema = parquet.read_schema(paths[table.name])
        described = {field.name: field.metadata[b"description"].decode() for field in schema}
        assert described == {column.name: column.sentence for column in table.columns}
        stored = parquet.ParquetFile(paths[table.name]).metadata
        assert {stored.row_group(0).column(index).compression for index in range(stored.num_columns)} == {"ZSTD"}


def test_no_line_is_lost(frames: Frames, raw: dict[str, Any]) -> None:
    results = [record["result"] for record in raw.values()]
    reports = [each for result in results for each in (result["report"], *trial_reports(result))]
    assert len(raw) > 400
    assert sorted(frames.runs.run) == sorted(raw)
    assert len(frames.rows) == sum(len(result["rows"]) for result in results)
    assert len(frames.samples) == sum(len(text) for record in raw.values() for text in record["verdicts"])
    assert len(frames.ledger) == sum(len(result["ledger"]) for result in results)
    assert len(frames.tuning) == sum(len(result["tuning"]["trials"]) for result in results if result["tuning"])
    assert len(frames.candidates) == sum(len(scores) for report in reports for scores in populations(report))
    assert len(frames.curves) == sum(len(curve) for report in reports for curve in curves(report))
    assert len(frames.coverage) == 0, "a record has pass@k: compare it here"


def trial_reports(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial["report"] for trial in result["report"].get("tuning", {"trials": []})["trials"]]


def populations(report: dict[str, Any]) -> list[list[Any]]:
    rounds = [each["scores"] for each in report.get("rounds", []) if "scores" in each]
    whole = [report["scores"]] if "scores" in report else []
    return [*whole, *rounds, *([report["stage1"]["rewards"]] if "stage1" in report else [])]


def curves(report: dict[str, Any]) -> list[list[Any]]:
    rounds = [each["training"] for each in report.get("rounds", []) if "training" in each]
    trained = rounds or ([report["training"]] if "training" in report else [])
    found = [values for each in trained for name, values in each["curve"].items() if name != "step"]
    trajectory = report.get("trajectory", [])
    return found + [[each[name] for each in trajectory] for name in (trajectory or [{}])[0] if name != "examples"]


def test_rows_have_the_numbers_of_the_records(frames: Frames, raw: dict[str, Any]) -> None:
    of_accuracy = ("correct", "items", "excluded", "accuracy", "low", "high", "mean_reward")
    expected = [
        (run, index, row["kind"], row["label"], *(row["accuracy"][name] for name in of_accuracy))
        for run, record in raw.items()
        for index, row in enumerate(record["result"]["rows"])
    ]
    assert sorted(named(frames.rows, "run", "row", "kind", "label", *of_accuracy)) == sorted(expected)
    pairs = {
        (run, index): (row["comparison"], row["cost"], row["gate"])
        for run, record in raw.items()
        for index, row in enumerate(record["result"]["rows"])
    }
    compared = ("difference", "difference_low", "difference_high", "p_value", "fixes", "regressions", "compared")
    columns = (*compared, "passes", "answer_flops", "answer_tokens", "gate_accepted", "gate_items", "gate_gain")
    for run, index, *values in named(frames.rows, "run", "row", *columns):
        comparison, cost, gate = pairs[run, index]
        of_comparison = ("difference", "low", "high", "p_value", "fixes", "regressions", "items")
        assert values[:7] == [comparison and comparison[name] for name in of_comparison]
        assert values[7:10] == [cost[name] for name in ("evaluations", "flops", "new_tokens")]
        assert values[10:] == [gate and gate[name] for name in ("accepted", "items", "gain")]


def test_samples_have_the_verdicts_of_the_records(frames: Frames, raw: dict[str, Any]) -> None:
    runs = frames.samples.run.drop_duplicates()
    written = frames.samples.correct.map({True: "1", False: "0"}, na_action="ignore").fillna("-")
    assert "".join(written) == "".join(text for run in runs for text in raw[run]["verdicts"])
    counted = frames.samples.groupby(["run", "row"]).correct.sum()
    answered = frames.rows[frames.rows.answers_of.isna()].set_index(["run", "row"]).correct
    assert counted.sort_index().tolist() == answered.sort_index().tolist()


def test_runs_and_accounts_have_the_numbers_of_the_records(frames: Frames, raw: dict[str, Any]) -> None:
    for run, seed, status, spent, flops, seconds, digest in named(
        frames.runs, "run", "seed", "status", "spent", "flops", "seconds", "model_digest"
    ):
        result = raw[run]["result"]
        assert (seed, status, digest) == (result["config"]["seed"], result["status"], result["model"]["digest"])
        assert spent == flops == result["budget"]["spent"]
        assert seconds == result["timing"]["total"]
    for run, account, flops, moves, tokens in named(
        frames.ledger, "run", "account", "flops", "weight_moves", "decode_tokens"
    ):
        booked = raw[run]["result"]["ledger"][account]
        assert (flops, moves, tokens) == (
            booked["flops"], booked["work"]["weight_moves"], booked["work"]["decode_tokens"]
        )  # fmt: skip


def test_the_board_equals_the_leaderboard(frames: Frames) -> None:
    records, _ = read_records(find_records([RECORDS])[0])
    shown = list(csv.DictReader(io.StringIO(as_csv(make_board(list(records.values()))))))
    names = ["name", "accuracy", "low", "high", "difference", "difference_low", "difference_high"]
    names += ["verdict", "letters", "evaluations", "flops", "share", "passes", "answer_flops", "gated_difference"]
    assert len(shown) == len(frames.board)
    for line, values in zip(shown, named(frames.board, *names), strict=True):
        for name, value in zip(names, values, strict=True):
            cell = line[name] if isinstance(value, str) else float(line[name]) if line[name] else None
            assert cell == value or not (cell or value), (line["name"], name)


def test_the_board_has_the_mean_over_the_rows_of_its_seeds(frames: Frames) -> None:
    lines = frames.board[(frames.board.method == "grpo") & frames.board.accuracy.notna() & (frames.board.failed == 0)]
    assert len(lines) > 5
    rows = frames.rows[frames.rows.kind == "method"].merge(frames.runs[["run", "item_set", "settings"]], on="run")
    groups = rows.groupby(["task", "budget", "ruleset", "method", "item_set", "settings"]).accuracy.mean()
    assert {round(value, 9) for value in groups} >= {
        round(value, 9) for value, judged, items in named(lines, "accuracy", "judged", "items") if judged == items
    }


def test_the_command_writes_what_python_reads(frames: Frames, tmp_path: Path) -> None:
    folder = RECORDS / "successor"
    arguments = ["export-data", str(folder), "-o", str(tmp_path), "--json"]
    outcome = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)
    assert outcome.return_value == 0
    written = {each["name"]: each for each in json.loads(outcome.stdout)["tables"]}
    found = bench.read(str(folder))
    assert {name: each["lines"] for name, each in written.items()} == {
        name: len(frame) for name, frame in found.tables.items()
    }
    assert len(found.runs) == sum(1 for _ in folder.rglob("seed-*.json")) > 0
