"""Records of runs as a data set repository, and back.

    README.md       card, which names the two tables
    rows.jsonl      the table `rows` of `reports.frames`, which `load_dataset` reads by default
    runs.jsonl      the table `runs`; a further column `record` holds the record, as `bench publish` keeps it

A line of rows.jsonl, shortened:

    {"run": "007bc45f...", "task": "addition", "model": "tiny-adder", "method": "corp", "budget": "400",
     "ruleset": "published", "seed": 0, "row": 1, "kind": "method", "label": "", "correct": 32, "items": 60, ...,
     "passes": 1.0, "answer_flops": 6349984.0, ...}
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
from bench.records.schema import Result
from reports.frames import lines, tables
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
    _write_lines(folder / ROWS, (row for record in records for row in _rows(record)))
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


def _unpacked(content: bytes, where: str, folder: Path) -> dict[Path, Record]:
    """Write each record to a file below a folder, read it from there, and give the file its own name."""
    found: dict[Path, Record] = {}
    for number, data in split(content):
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


def _write_lines(path: Path, blocks: Iterable[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(f"{encode(each).decode()}\n" for each in blocks))


def _published(record: Record) -> tuple[str, Record]:
    """Return the text of a committed record, and the record that is read from it."""
    text = compact(record)
    return text, Record.model_validate_json(text)


def _run(record: Record) -> Mapping[str, Any]:
    text, published = _published(record)
    return lines.whole(tables.RUNS, lines.runs(published)) | {"record": text}


def _rows(record: Record) -> Iterable[Mapping[str, Any]]:
    return (lines.whole(tables.ROWS, row) for row in lines.rows(_published(record)[1]))


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
