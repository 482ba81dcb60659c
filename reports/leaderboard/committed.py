"""The committed leaderboard: a folder of compact records, and two pages built from them.

    records/<task>/<model>/<method>/<budget>/seed-<n>-<id8>.json
    withdrawn.toml          records that were withdrawn, with the reason
    leaderboard.md
    leaderboard.html

The pages depend on the records, the withdrawals, and the suites whose planned runs they count. They are sorted and
carry no date, so rebuilding them gives the same bytes.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.errors import BenchError, UsageError, usage_error
from bench.records.files import write_atomically
from bench.records.lines import encode
from bench.records.migrations import migrate
from bench.records.paths import without_address, without_paths
from bench.run.run_id import run_folder
from reports.html.leaderboard import board_page
from reports.leaderboard.build import make_board
from reports.leaderboard.grouping import agreeing, distinct
from reports.leaderboard.suites import NO_SUITES, Suites, coverage
from reports.leaderboard.summaries import Withdrawal
from reports.leaderboard.text import markdown
from reports.reading import find_records, gc_disabled, read_record, read_records
from reports.record import Record

MAX_BYTES = 50_000
"""Maximum size of a committed record in bytes."""

DIGITS = 9
"""Significant digits of the numbers on the pages. Further digits differ between processors and library versions."""

_WITHDRAWALS = TypeAdapter(tuple[Withdrawal, ...])
_HEAD = (
    "# Leaderboard\n\nMade from `records` by `bench publish`; not to be edited. That a run took place cannot be seen "
    "in its record: [what is checked, and what is not](../docs/trust.md).\n\n"
)


@dataclass(frozen=True)
class Published:
    """What `publish` wrote, and the reasons for runs that it left out.

    Attributes:
        records: Paths of the records written, sorted.
        pages: Paths of the pages.
        unreadable: Reason for each run that was left out.
    """

    records: tuple[Path, ...]
    pages: tuple[Path, ...]
    unreadable: tuple[str, ...]


def publish(
    runs: Iterable[Path], folder: Path, suites: Suites = NO_SUITES, check: Callable[[Record], None] = lambda _: None
) -> Published:
    """Write compact records of finished runs to a folder and rebuild its pages.

    All texts are made before the first file is written. A run that cannot be read is left out, and so is one that the
    check refuses, or that contradicts a committed record or another run, see `agreeing`.

    Args:
        runs: Run directories or record files, as `find_records` returns them.
        folder: Folder of the committed leaderboard.
        suites: Planned runs of the suites that the board states its completeness for.
        check: Check of each new record against what its run had, such as the task's data. It raises a BenchError.

    Raises:
        BenchError: If no run is left for the board, if the folder has a record that cannot be read, is not under its
            own name or contradicts another of the folder, or if a new record is larger than `MAX_BYTES` bytes. Nothing
            is written then.
    """
    given, left_out = read_records(runs)
    checked, refused = {}, []
    for path, record in given.items():
        try:
            check(record)
        except BenchError as error:
            refused.append(f"{path}: {error}")
        else:
            checked[path] = record
    places = {path: record_path(record, folder / "records").resolve() for path, record in checked.items()}
    replaced = set(places.values())
    committed = {}
    for path in find_records([folder / "records"])[0]:
        found = _readable(path) if path in replaced else read_record(path)
        if found is not None:
            committed[path] = found
    kept, contradicting = agreeing(checked, committed)
    new = {places[path]: record for path, record in kept.items()}
    for path in replaced - new.keys() - committed.keys():
        if path.exists():
            read_record(path)  # is damaged, and stays, as what would have replaced it was left out
    reasons = (*left_out, *refused, *contradicting.values())
    texts = {path: compact(record) for path, record in new.items()}
    if not (committed or new) and reasons:
        raise BenchError("; ".join(reasons))
    built = {folder / name: text for name, text in _pages(committed | new, folder, suites).items()}
    for path, text in (texts | built).items():
        write_atomically(path, text)
    written = sorted({record_path(record, folder / "records") for record in kept.values()})
    return Published(tuple(written), tuple(built), reasons)


def is_committed(record: Record, folder: Path) -> bool:
    """Return whether a folder of a committed leaderboard has this record, unchanged."""
    before = _readable(record_path(record, folder / "records"))
    return before is not None and compact(before) == compact(record)


def _readable(path: Path) -> Record | None:
    """Return the record at a path; None if there is none, or it is damaged and may be replaced."""
    try:
        return read_record(path) if path.exists() else None
    except BenchError:
        return None


def record_path(record: Record, folder: Path) -> Path:
    """Return the path of a record below a folder, such as `addition/tiny-adder/corp/2048/seed-0-683733fb.json`."""
    result = record.result
    model = result.model.name if result.model else Path(result.config.model).name
    run = run_folder(folder, result.config, model, result.id)
    return run.with_name(run.name + ".json")


def pages(folder: Path, suites: Suites = NO_SUITES) -> dict[str, str]:
    """Build the pages of a folder from its records. Return the text of each page by file name.

    Args:
        folder: Folder with the records.
        suites: Planned runs of the suites that the board states its completeness for.

    Raises:
        UsageError: If the folder has no records.
    """
    with gc_disabled():
        return _pages({path: read_record(path) for path in find_records([folder / "records"])[0]}, folder, suites)


def _pages(records: Mapping[Path, Record], folder: Path, suites: Suites) -> dict[str, str]:
    if not records:
        raise UsageError(f"{folder / 'records'}: no records; bench publish RUNS puts finished runs there")
    for path, record in records.items():
        if path.resolve() != (own := record_path(record, folder / "records").resolve()):
            raise BenchError(
                f"{path}: holds run {record.result.id[:8]}, whose record is {own}; a file under another name would "
                "count the run twice. Remove it, and publish its run again"
            )
    with gc_disabled():
        read = list(distinct({path: records[path] for path in sorted(records, key=str)}).values())
        planned = tuple(coverage(name, runs, read) for name, runs in suites.items())
        board = _rounded(replace(make_board(read), suites=planned, withdrawals=withdrawals(folder)))
    return {"leaderboard.md": _HEAD + markdown(board) + "\n", "leaderboard.html": board_page(board)}


def withdrawals(folder: Path) -> tuple[Withdrawal, ...]:
    """Return the withdrawals of a folder, from its `withdrawn.toml`; none if it has no such file.

    Example:
        ```toml
        [[withdrawal]]
        reason = "the method's own gate decided this row"
        records = ["683733fb"]
        ```

    Raises:
        UsageError: If the file is not of that form.
    """
    path = folder / "withdrawn.toml"
    if not path.exists():
        return ()
    try:
        return _WITHDRAWALS.validate_python(tomllib.loads(path.read_text())["withdrawal"])
    except ValidationError as error:
        raise usage_error(str(path), error) from error
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(f"{path}: not a list of withdrawals ({error})") from error


def stale(folder: Path, suites: Suites = NO_SUITES) -> list[Path]:
    """Return the pages of a folder that are missing or differ from what its records give."""
    return [folder / name for name, text in pages(folder, suites).items() if _text(folder / name) != text]


def _text(path: Path) -> str | None:
    return path.read_bytes().decode(errors="replace") if path.exists() else None


def _rounded(value: Any) -> Any:
    """Round every float in nested dataclasses, tuples and dicts to `DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _rounded(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    return {key: _rounded(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def compact(record: Record) -> str:
    """Return the text of a committed record: one line of JSON, without addresses and paths of machines.

    It lacks the traceback and the URL of a server's model, and paths are shortened to their last part. A record larger
    than `MAX_BYTES` loses the reports of its rows, and then the largest parts of its method's report.

    Raises:
        BenchError: If the record is still too large.
    """
    text = _line(record)
    if len(text.encode()) > MAX_BYTES:
        rows = tuple(row.model_copy(update={"report": {}}) for row in record.result.rows)
        record = record.model_copy(update={"result": record.result.model_copy(update={"rows": rows})})
        text = _line(record)
    while len(text.encode()) > MAX_BYTES and (report := dict(record.result.report)):
        del report[max(report, key=lambda name: len(json.dumps(report[name])))]
        record = record.model_copy(update={"result": record.result.model_copy(update={"report": report})})
        text = _line(record)
    if (size := len(text.encode())) > MAX_BYTES:
        raise BenchError(f"record of run {record.result.id[:8]}: {size} bytes; a committed one has at most {MAX_BYTES}")
    return text


def _line(record: Record) -> str:
    plain = record.model_dump(mode="json")
    result = plain["result"]
    result["traceback"] = None
    if url := result["config"]["endpoint"]:
        result["config"]["endpoint"] = None
        result["reason"] = result["reason"] and without_address(result["reason"], url)
    return encode(without_paths(plain)).decode() + "\n"


Plain = Mapping[str, Any]
"""Committed record as parsed JSON, in any schema that can be migrated."""


def missing_rows(before: Sequence[Plain], now: Sequence[Plain], withdrawn: Collection[str] = ()) -> list[str]:
    """Return the runs and rows that `before` has and `now` lacks, one message each.

    Args:
        before: Earlier records.
        now: Present records.
        withdrawn: The first 8 digits of the ids of records that may be missing.

    A row counts as present if there is one with the same task, model, budget, strategy, method, label and seed, even
    with other versions or settings.
    """
    gone = _rows([record for record in before if record["result"]["id"][:8] not in withdrawn]) - _rows(now)
    return [f"{' '.join(row)}: {number} lost" for row, number in sorted(gone.items())]


def _rows(records: Sequence[Plain]) -> Counter[tuple[str, ...]]:
    rows: Counter[tuple[str, ...]] = Counter()
    for record in map(_migrated, records):
        config = record["result"]["config"]
        names = ("adapt_on", "task", "model", "budget", "strategy", "method", "seed")
        run = tuple(str(config[name]) for name in names if config.get(name) is not None)
        rows[(*run, "run")] += 1
        rows.update((*run, f"row {_row_name(row)}".strip()) for row in record["result"]["rows"][1:])
    return rows


def changed_accuracies(before: Sequence[Plain], now: Sequence[Plain]) -> list[str]:
    """Return the runs whose accuracy changed although version, settings, data, model and engine are the same."""
    earlier = [record for record in map(_migrated, before) if record["result"]["status"] == "ok"]
    outcomes = {_inputs(record): _outcome(record) for record in earlier}
    return [
        f"{record['result']['id'][:8]}: {outcomes[inputs]} became {outcome}"
        for record in map(_migrated, now)
        if (inputs := _inputs(record)) in outcomes and (outcome := _outcome(record)) != outcomes[inputs]
    ]


def _migrated(record: Plain) -> Plain:
    return migrate(record, Path("record"))


def _inputs(record: Plain) -> str:
    """Return everything that decides a run's outcome, as JSON."""
    result = record["result"]
    model = result.get("model") and {**result["model"], "shape": None}  # records of schema 2 do not have it
    names = ("config", "versions", "content_hash", "splits", "engine", "prompt")
    return json.dumps([model, *(result.get(name) for name in names)], sort_keys=True)


def _row_name(row: Plain) -> str:
    return f"{row['label']} gated".strip() if row["kind"] == "gated" else str(row["label"])


def _outcome(record: Plain) -> str:
    """Return status and accuracies, such as `ok, k=1 27 of 40`."""
    rows = {_row_name(row): row["accuracy"] for row in record["result"]["rows"][1:]}
    counts = [f"{label} {accuracy['correct']} of {accuracy['items']}".strip() for label, accuracy in rows.items()]
    return ", ".join([record["result"]["status"], *counts])
