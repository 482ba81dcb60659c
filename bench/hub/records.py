"""Records of runs as a data set repository, and back.

    README.md       card, which names the two tables
    rows.jsonl      one line per row of a result, with plain columns; the table that `load_dataset` reads by default
    runs.jsonl      one line per run; the column `record` holds its record, as `bench publish` keeps it

A line of rows.jsonl:

    {"run": "007bc45f...", "task": "addition", "model": "tiny-adder", "method": "corp", "budget": "400", "seed": 0,
     "strategy": "greedy", "kind": "method", "label": "", "correct": 32, "items": 60, "accuracy": 0.533, "low": 0.409,
     "high": 0.654, "difference": 0.0, "difference_low": -0.074, "difference_high": 0.074, "p_value": 1.0,
     "passes_per_answer": 1.0, "flops_per_answer": 6349984.0, "kept": null}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.amounts import counted
from bench.errors import BenchError, Refused, UsageError
from bench.hub.client import Content, Hub, Repository
from bench.hub.model import CARD
from bench.hub.model_card import TAG
from bench.records.files import read, write_atomically
from bench.records.lines import NotStrict, decode, encode, split
from bench.records.paths import without_paths
from bench.records.rows import Row
from bench.records.schema import Result
from reports.leaderboard.committed import compact, record_path
from reports.leaderboard.grouping import agreeing
from reports.reading import read_record, read_records
from reports.record import Record

ROWS, RUNS = "rows.jsonl", "runs.jsonl"
RECORDS = "records"
"""Folder of the record files in a folder that was pulled."""


def read_pushed(hub: Hub, repository: Repository, there: Content | None, folder: Path) -> dict[Path, Record]:
    """Return the records that a repository holds, by a path in a folder that they are written to.

    Raises:
        Refused: If it holds other files.
        BenchError: If a record cannot be read.
    """
    if there is None or not there.files:
        return {}
    if RUNS not in there.files:
        raise Refused(f"{repository}: holds files that bench did not push; push to another one, or give --replace")
    return _unpacked(hub.read(repository, there, RUNS), f"{repository}: {RUNS}", folder)


def write_records(
    runs: Iterable[Path], pushed: Mapping[Path, Record], repository: Repository, folder: Path
) -> tuple[dict[Path, Record], tuple[str, ...]]:
    """Write the files of a data set repository with runs and the records that it holds already.

    Args:
        runs: Run directories or record files.
        pushed: Records that it holds.
        repository: Repository that the files are for.
        folder: Empty folder.

    Returns:
        The new records by path, and the reason for each run that was left out.

    Raises:
        BenchError: If no run is left.
    """
    given, unreadable = read_records(runs)
    kept, contradicting = agreeing(given, pushed)
    left_out = (*unreadable, *contradicting.values())
    if not kept:
        raise BenchError("; ".join(left_out))
    known = {record.result.id: record for record in [*pushed.values(), *kept.values()]}
    records = sorted(known.values(), key=lambda record: str(record_path(record, Path())))
    _write_lines(folder / RUNS, (_run(record) for record in records))
    _write_lines(folder / ROWS, (_row(record.result, row) for record in records for row in record.result.rows))
    write_atomically(folder / CARD, _card(repository.name, [record.result for record in records]))
    return kept, left_out


def unpack_records(staging: Path, repository: Repository, folder: Path) -> dict[Path, Record]:
    """Make a folder from the files of a data set repository that was downloaded, and return its records by path.

    The record files are in `records`; the tables and the card stay beside them.

    Args:
        staging: Downloaded files. They are moved.
        repository: Where they are from.
        folder: Empty folder.

    Raises:
        UsageError: If the repository holds no records of bench.
        BenchError: If a record cannot be read or contradicts itself.
    """
    if not (staging / RUNS).exists():
        raise UsageError(f"{repository}: holds no {RUNS}, so its data are not records of bench")
    found = _unpacked(read(staging / RUNS), f"{repository}: {RUNS}", folder / RECORDS)
    for name in (CARD, ROWS, RUNS):
        if (staging / name).exists():
            (staging / name).rename(folder / name)
    return found


def _unpacked(lines: bytes, where: str, folder: Path) -> dict[Path, Record]:
    """Write each record to a file below a folder, read it from there, and give the file its own name."""
    found: dict[Path, Record] = {}
    for number, data in split(lines):
        written = folder / f"{number}.json"
        try:
            write_atomically(written, decode(data)["record"])
            record = read_record(written)
        except (NotStrict, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{where}: line {number} holds no record ({error}); nothing was written") from error
        except BenchError as error:
            raise BenchError(f"{where}: line {number}: {error}") from error
        path = record_path(record, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        written.rename(path)
        found[path] = record
    return found


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(f"{encode(each).decode()}\n" for each in lines))


def _names(result: Result) -> dict[str, Any]:
    config = result.config
    found: dict[str, Any] = without_paths(
        {
            "run": result.id,
            "task": config.task_label,
            "model": result.model.name if result.model else config.model,
            "method": config.method,
            "budget": config.budget,
            "seed": config.seed,
            "strategy": config.strategy,
        }
    )
    return found


def _run(record: Record) -> dict[str, Any]:
    result = record.result
    spent = {"spent_flops": float(result.budget.spent) if result.budget else None}
    return _names(result) | {"status": result.status, "ruleset": result.ruleset} | spent | {"record": compact(record)}


def _row(result: Result, row: Row) -> dict[str, Any]:
    a, c = row.accuracy, row.comparison
    return _names(result) | {
        "kind": row.kind,
        "label": row.label,
        "correct": a.correct,
        "items": a.items,
        "accuracy": a.accuracy,
        "low": a.low,
        "high": a.high,
        "difference": c and c.difference,
        "difference_low": c and c.low,
        "difference_high": c and c.high,
        "p_value": c and c.p_value,
        "passes_per_answer": row.cost.evaluations,
        "flops_per_answer": row.cost.flops,
        "kept": row.gate and row.gate.accepted,
    }


def _card(name: str, results: Iterable[Result]) -> str:
    from huggingface_hub import DatasetCardData

    results = list(results)
    tasks = sorted({result.config.task for result in results})
    data = DatasetCardData(
        configs=[
            {"config_name": "rows", "data_files": ROWS, "default": True},
            {"config_name": "runs", "data_files": RUNS},
        ],
        pretty_name=name.partition("/")[2],
        tags=[TAG],
    )
    return f"""---
{data.to_yaml()}
---

# {name.partition("/")[2]}

Records of {counted(len(results), "run")} of bench, a referee for LLM post-training methods, on
{", ".join(f"`{task}`" for task in tasks)}.

```python
from datasets import load_dataset

rows = load_dataset("{name}", split="train")  # accuracy and cost of each base and artifact
runs = load_dataset("{name}", "runs", split="train")  # the whole records
```

```sh
bench pull records {name} -o pulled
bench leaderboard pulled
```
"""
