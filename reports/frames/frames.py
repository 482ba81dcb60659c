"""Tables as pandas DataFrames and as parquet files. Needs pandas and pyarrow: the extra `data`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, Refused, UsageError, shown
from bench.records.digests import JOURNAL
from bench.records.files import write_atomically
from bench.records.journal import JournalOutdated, read_entries
from bench.records.samples import read_samples
from reports.frames import history, lines, tables
from reports.frames.columns import Table, fitting
from reports.frames.lines import Block
from reports.leaderboard.build import make_board
from reports.leaderboard.grouping import agreeing
from reports.reading import find_records, gc_disabled, none_finished, read_records
from reports.record import Record

if TYPE_CHECKING:
    import pandas
    import pyarrow

_LISTS = (list, tuple, range)
INSTALL = "pip install -c requirements/cpu.txt '.[data]'"


@dataclass(frozen=True, eq=False)
class Frames:
    """Runs as tables. docs/data-frames.md lists the columns.

    Attributes:
        runs: One line for each run.
        board: One line for each line of the leaderboard.
        rows: One line for each row of a result.
        coverage: One line for each pass@k.
        samples: One line for each test answer.
        candidates: One line for each perturbation that a method scored.
        curves: One line for each value of each training curve.
        ledger: One line for each account of each run.
        tuning: One line for each trial.
        unfinished: Run directories that were left out because the run has not finished.
        unreadable: Reason for each run that was left out because it cannot be read.
    """

    runs: pandas.DataFrame
    board: pandas.DataFrame
    rows: pandas.DataFrame
    coverage: pandas.DataFrame
    samples: pandas.DataFrame
    candidates: pandas.DataFrame
    curves: pandas.DataFrame
    ledger: pandas.DataFrame
    tuning: pandas.DataFrame
    unfinished: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, pandas.DataFrame]:
        """The tables by name."""
        return {table.name: getattr(self, table.name) for table in tables.TABLES}


def read(roots: Sequence[Path]) -> Frames:
    """Return finished runs as tables. Runs that cannot be read are left out, with the reason.

    Args:
        roots: Run directories, record files, or folders of these.

    Raises:
        UsageError: If no path is given, a path does not exist, or there is no finished run.
        Refused: If pandas or pyarrow is not installed.
    """
    _require()
    if not roots:
        raise UsageError("no path is given; expected run directories, record files, or folders of these")
    if missing := [root for root in roots if not root.exists()]:
        raise UsageError(f"{missing[0]}: there is no such file or folder; expected runs or records")
    paths, unfinished = find_records(roots)
    if not paths:
        raise none_finished(roots, unfinished)
    read_in, unreadable = read_records(paths)
    # Of a run and its record file, the run directory counts, because it has texts.
    kept, contradicting = agreeing(dict(sorted(read_in.items(), key=lambda item: item[0].is_file())))
    reasons = [*unreadable, *contradicting.values()]
    records, found = [], _Builder()
    with gc_disabled():
        for path, record in kept.items():
            try:
                found.add(_blocks(path, record), str(path))
                records.append(record)
            except BenchError as error:
                reasons.append(str(error))
        found.add({"board": lines.board(make_board(records))}, "the board")
    return Frames(**found.frames(), unfinished=tuple(map(str, unfinished)), unreadable=tuple(reasons))


def write(frames: Frames, folder: Path) -> dict[str, Path]:
    """Write each table as a parquet file, compressed with zstd. Other files in the folder are kept.

    The description of a column is in the metadata of its field, under `description`.

    Returns:
        Path of each file by the name of its table.

    Raises:
        WriteFailed: If a file cannot be written. Its old content is kept.
    """
    import pyarrow
    from pyarrow import parquet

    paths = {table.name: folder / f"{table.name}.parquet" for table in tables.TABLES}
    for table in tables.TABLES:
        made = pyarrow.Table.from_pandas(frames.tables[table.name], _schema(table), preserve_index=False)
        content = pyarrow.BufferOutputStream()
        parquet.write_table(made, content, compression="zstd")
        write_atomically(paths[table.name], content.getvalue().to_pybytes())
    return paths


def _require() -> None:
    missing = [name for name in ("pandas", "pyarrow") if find_spec(name) is None]
    if missing:
        raise Refused(f"data frames need {' and '.join(missing)}: {INSTALL}")


def _blocks(path: Path, record: Record) -> dict[str, Iterable[Block]]:
    """Return the lines of a run by table."""
    answers = read_samples(path) if path.is_dir() and record.items else []
    entries = _entries(path) if path.is_dir() and history.is_in_journal(record) else []
    return {
        "runs": [lines.runs(record)],
        "rows": lines.rows(record),
        "coverage": lines.coverage(record),
        "samples": lines.samples(record, answers),
        "candidates": history.candidates(record, entries),
        "curves": history.curves(record),
        "ledger": lines.ledger(record),
        "tuning": lines.tuning(record),
    }


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's journal; none of one in the format of an earlier version."""
    try:
        return read_entries(folder / JOURNAL)[0]
    except JournalOutdated:
        return []


class _Builder:
    """Collects blocks, and makes a frame of each table."""

    def __init__(self) -> None:
        self._parts: dict[str, list[list[Any]]] = {table.name: [] for table in tables.TABLES}

    def add(self, blocks: Mapping[str, Iterable[Block]], where: str) -> None:
        """Add blocks by table, all of them or none.

        Args:
            blocks: Blocks by name of the table.
            where: Name of the run, for error messages.

        Raises:
            BenchError: If a value does not fit its column.
        """
        made = {
            table.name: [_arrays(table, block, where) for block in blocks.get(table.name, ())]
            for table in tables.TABLES
        }
        for name, found in made.items():
            self._parts[name] += found

    def frames(self) -> dict[str, pandas.DataFrame]:
        """Return the tables by name."""
        return {table.name: self._frame(table) for table in tables.TABLES}

    def _frame(self, table: Table) -> pandas.DataFrame:
        import pandas
        import pyarrow

        schema = _schema(table)
        columns = [
            pyarrow.chunked_array([part[index] for part in self._parts[table.name]], field.type)
            for index, field in enumerate(schema)
        ]
        whole = pyarrow.Table.from_arrays(columns, schema=schema).combine_chunks()  # pandas is slow at many
        nullable = {pyarrow.int64(): pandas.Int64Dtype(), pyarrow.bool_(): pandas.BooleanDtype()}
        return whole.to_pandas(types_mapper=nullable.get)


@cache
def _schema(table: Table) -> pyarrow.Schema:
    import pyarrow

    kinds = {
        "text": pyarrow.large_string(),  # as pandas stores it
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
    }
    return pyarrow.schema(
        [pyarrow.field(each.name, kinds[each.kind], metadata={"description": each.sentence}) for each in table.columns],
        metadata={"description": table.sentence},
    )


def _arrays(table: Table, block: Block, where: str) -> list[pyarrow.Array]:
    """Return a block as one array for each column of a table.

    Raises:
        BenchError: If a value does not fit its column.
    """
    import pyarrow

    if unknown := block.keys() - {column.name for column in table.columns}:
        raise KeyError(f"{table.name} has no columns {sorted(unknown)}")
    (length,) = {len(value) for value in block.values() if isinstance(value, _LISTS)} or {1}
    arrays = []
    for column, field in zip(table.columns, _schema(table), strict=True):
        value = block.get(column.name)
        if value is None:
            arrays.append(pyarrow.nulls(length, field.type))
            continue
        several = isinstance(value, _LISTS)
        known = fitting(column, value if several else [value])
        try:
            array = pyarrow.array(known, field.type)
        except OverflowError as error:
            largest = shown(max(filter(None, known), key=abs))
            raise BenchError(
                f"{where}: {column.name} of {table.name} has {largest}; expected an integer of at most 64 bits. Leave "
                "the run out"
            ) from error
        arrays.append(array if several else pyarrow.repeat(array[0], length))
    return arrays
