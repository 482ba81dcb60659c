"""The committed board: compact records in a folder, and the pages that follow from them and from nothing else.

    records/<task>/<model>/<method>/<budget>/seed-<n>-<id8>.json
    leaderboard.md
    leaderboard.html

The pages are sorted and carry no date, so that building them anew gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError
from bench.records.files import write_atomically
from bench.run.run_id import run_folder
from reports.html.leaderboard import board_page
from reports.leaderboard.build import make_board
from reports.leaderboard.text import markdown
from reports.record import Record, find_records, gc_disabled, read_record

MOST = 50_000
"""Bytes of a record."""

DIGITS = 9
"""Significant digits of the pages' figures. Processors and libraries disagree about the last ones."""

_HEAD = "# Leaderboard\n\nMade from `records` by `bench publish`; not to be edited.\n\n"
_PATH = re.compile(r"""(?<![^\s'"(=,])/(?:[^/\s'",:)]+/)+(?=[^/\s'",:)])""")


def publish(runs: Iterable[Path], folder: Path) -> tuple[list[Path], list[Path]]:
    """Write compact records of finished runs to a folder, and its pages anew; return the files of both.

    Args:
        runs: Run directories or files of records, as `find_records` gives them.
        folder: Of the committed board.

    Raises:
        BenchError: If a run cannot be read or does not fit into a record.
    """
    texts = {place(record, folder / "records"): compact(record) for record in map(read_record, runs)}
    for path, text in texts.items():
        write_atomically(path, text)
    built = {folder / name: text for name, text in pages(folder).items()}
    for path, text in built.items():
        write_atomically(path, text)
    return sorted(texts), list(built)


def place(record: Record, folder: Path) -> Path:
    """Return where a record stands below a folder, by what it says."""
    result = record.result
    model = result.model.name if result.model else Path(result.config.model).name
    run = run_folder(folder, result.config, model, result.id)
    return run.with_name(run.name + ".json")


def pages(folder: Path) -> dict[str, str]:
    """Return the text of each page, by its name, as the records in a folder give them.

    Raises:
        UsageError: If there are none.
    """
    records = folder / "records"
    found, _ = find_records([records])
    if not found:
        raise UsageError(f"{records}: no records; bench publish RUNS puts finished runs there")
    with gc_disabled():
        board = _rounded(make_board([read_record(path) for path in found]))
    return {"leaderboard.md": _HEAD + markdown(board) + "\n", "leaderboard.html": board_page(board)}


def stale(folder: Path) -> list[Path]:
    """Return the pages of a folder that are not what its records give, or are not there."""
    return [folder / name for name, text in pages(folder).items() if _text(folder / name) != text]


def _text(path: Path) -> str | None:
    return path.read_bytes().decode(errors="replace") if path.exists() else None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _rounded(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    return {key: _rounded(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def compact(record: Record) -> str:
    """Return the file of a record: on one line, and without paths of the machine that it ran on.

    Methods' reports, which no board is made of, are left out where they do not fit.

    Raises:
        BenchError: If it does not fit all the same.
    """
    text = _line(record)
    if len(text.encode()) > MOST:
        rows = tuple(row.model_copy(update={"report": {}}) for row in record.result.rows)
        result = record.result.model_copy(update={"report": {}, "rows": rows})
        text = _line(record.model_copy(update={"result": result}))
    if (size := len(text.encode())) > MOST:
        raise BenchError(f"record of run {record.result.id[:8]}: {size} bytes; a committed one has at most {MOST}")
    return text


def _line(record: Record) -> str:
    plain = record.model_dump(mode="json")
    plain["result"]["traceback"] = None
    return json.dumps(without_paths(plain), separators=(",", ":"), ensure_ascii=False) + "\n"


def without_paths(value: Any) -> Any:
    """Return data with each absolute path in its texts cut to the last name of it."""
    if isinstance(value, str):
        return _PATH.sub("", value)
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return {key: without_paths(inner) for key, inner in value.items()} if isinstance(value, dict) else value


Plain = Mapping[str, Any]
"""A committed record as it was read from JSON, by whatever version wrote it."""


def lost(before: Sequence[Plain], now: Sequence[Plain]) -> list[str]:
    """Return what stood on the board and does not any more: runs, and rows with an accuracy.

    A row of another version or setting takes the place of one of the same task, model, budget, strategy, method, label
    and seed.
    """
    gone = _rows(before) - _rows(now)
    return [f"{' '.join(row)}: {number} lost" for row, number in sorted(gone.items())]


def _rows(records: Sequence[Plain]) -> Counter[tuple[str, ...]]:
    rows: Counter[tuple[str, ...]] = Counter()
    for record in records:
        config = record["result"]["config"]
        names = ("adapt_on", "task", "model", "budget", "strategy", "method", "seed")
        run = tuple(str(config[name]) for name in names if config.get(name) is not None)
        rows[(*run, "run")] += 1
        rows.update((*run, f"row {row['label']}".strip()) for row in record["result"].get("rows", ()))
    return rows


def moved(before: Sequence[Plain], now: Sequence[Plain]) -> list[str]:
    """Return the runs whose accuracy moved although nothing says why: no version, setting, data, model or engine."""
    ended = {_cause(record): _end(record) for record in before if record["result"]["status"] == "ok"}
    return [
        f"{record['result']['id'][:8]}: {ended[cause]} became {end}"
        for record in now
        if (cause := _cause(record)) in ended and (end := _end(record)) != ended[cause]
    ]


def _cause(record: Plain) -> str:
    names = ("config", "versions", "content_hash", "splits", "model", "engine", "prompt")
    return json.dumps([record["result"].get(name) for name in names], sort_keys=True)


def _end(record: Plain) -> str:
    rows = {row["label"]: row["accuracy"] for row in record["result"].get("rows", ())}
    told = [f"{label} {accuracy['correct']} of {accuracy['items']}".strip() for label, accuracy in rows.items()]
    return ", ".join([record["result"]["status"], *told])
