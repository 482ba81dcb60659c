"""Reading of records, from run directories and record files. Every record that is read is checked."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError, UsageError, shown
from bench.records.digests import JOURNAL, SAMPLES, check_digests, items_digest
from bench.records.migrations import migrate, parse
from bench.records.samples import Sample, read_lines, samples_of
from bench.records.schema import Result, find_runs, result_path, validated
from reports.check import check_record
from reports.record import RIGHT, UNJUDGED, WRONG, Record

_VERDICTS = {True: RIGHT, False: WRONG, None: UNJUDGED}


def read_record(path: Path) -> Record:
    """Read the record of a run directory, or a record file, and check that its parts agree.

    Records of earlier schemas are migrated.

    Raises:
        BenchError: If the path holds no finished run, or the record cannot be read or contradicts itself.
    """
    record = unchecked_record(path)
    if path.is_dir():
        check_digests(record.result, path, [SAMPLES, JOURNAL])
    check_record(record, path)
    return record


def unchecked_record(path: Path) -> Record:
    """Read a record as `read_record` does, without the checks that its parts agree.

    Raises:
        BenchError: If the path holds no finished run, or the record cannot be read.
    """
    return _record_of_run(path) if path.is_dir() else _record_in(path)


def read_records(paths: Iterable[Path]) -> tuple[dict[Path, Record], tuple[str, ...]]:
    """Read records, and leave out those that cannot be read.

    Returns:
        Records by path, and the reason for each that was left out.
    """
    found: dict[Path, Record] = {}
    unreadable = []
    with gc_disabled():
        for path in paths:
            try:
                found[path] = read_record(path)
            except BenchError as error:
                unreadable.append(str(error))
    return found, tuple(unreadable)


def _record_in(path: Path) -> Record:
    """Return the record in a file.

    Raises:
        BenchError: If the file does not hold one verdict for each of the same items and each row with answers.
    """
    record = validated(Record, migrate(parse(path), path), path)
    if len({len(text) for text in record.verdicts}) > 1 or len(record.verdicts) != len(_answered(record.result)):
        raise BenchError(f"{path}: each row with answers must have a verdict for each of the same items")
    if record.clusters is not None and len(record.clusters) != len(record.base):
        raise BenchError(f"{path}: clusters has {len(record.clusters)} labels; expected one for each item")
    return record


def _record_of_run(folder: Path) -> Record:
    """Return the record of a run directory.

    Raises:
        BenchError: If samples.jsonl is missing or does not match the rows of the result.
    """
    path = result_path(folder)
    document = migrate({"result": parse(path), **read_lines(folder)}, path)
    result, samples = validated(Result, document["result"], path), samples_of(folder, document)
    if not result.rows:
        return Record(result=result)
    if not samples:
        raise BenchError(f"{folder / 'samples.jsonl'}: missing or empty, though the run ended well; nothing to compare")
    by_row: dict[int, dict[str, Sample]] = {}
    for sample in samples:
        if by_row.setdefault(sample.row, {}).setdefault(sample.id, sample) is not sample:
            raise BenchError(
                f"{folder / 'samples.jsonl'}: two samples of row {sample.row} have the id {shown(sample.id)}; expected "
                "one answer to each item. The file was changed; restore it, or repeat the run"
            )
    first = by_row.get(0, {})
    if sorted(by_row) != _answered(result) or any(row.keys() != first.keys() for row in by_row.values()):
        raise BenchError(
            f"{folder / 'samples.jsonl'}: does not hold one answer for each row of the result and each item"
        )
    verdicts = tuple("".join(_VERDICTS[by_row[row][i].correct] for i in first) for row in sorted(by_row))
    labels = tuple(sample.cluster for sample in first.values() if sample.cluster is not None)
    if labels and len(labels) != len(first):
        raise BenchError(f"{folder / 'samples.jsonl'}: only some samples have a cluster; repeat the run")
    return Record(result=result, items=items_digest(list(first)), verdicts=verdicts, clusters=labels or None)


def _answered(result: Result) -> list[int]:
    """Return the indices of the rows that have answers of their own."""
    return [number for number, row in enumerate(result.rows) if row.answers_of is None]


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Switch Python's cyclic garbage collector off while records are read.

    It would scan the growing list of records again and again. With it on, reading 10,000 records and making their
    board takes 1.7 times as long (`python -m measurements.leaderboard`).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def find_records(roots: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Find runs and record files below folders.

    A file is a record if its name is a run directory's name plus `.json`, such as `seed-0-1a2b3c4d.json`.

    Returns:
        Finished runs and record files, sorted; and unfinished runs, sorted.
    """
    found: set[Path] = set()
    unfinished: set[Path] = set()
    for root in roots:
        root = root.resolve()
        if root.is_file():
            found.add(root)
            continue
        found.update(root.rglob("seed-*.json"))
        for folder in find_runs(root):
            (found if (folder / "result.json").exists() else unfinished).add(folder)
    return sorted(found, key=str), sorted(unfinished, key=str)


def none_finished(roots: Iterable[Path], unfinished: Sequence[Path] = (), chosen: str = "") -> UsageError:
    """Return the error for folders without a finished run, which says what to do.

    Args:
        roots: Folders that were searched.
        unfinished: Unfinished runs that were found in them.
        chosen: Options that chose among the runs, for the message, such as `, --task addition`.
    """
    roots = list(roots)
    where = ", ".join(map(str, roots)) + chosen
    if renamed := [root for root in roots if (root / "config.json").exists() and not root.name.startswith("seed-")]:
        return UsageError(
            f"{renamed[0]}: the folder of this run was renamed; give it back its name, such as seed-0-1a2b3c4d"
        )
    if unfinished:
        return UsageError(f"{where}: no finished run; continue one with: bench resume {unfinished[0]}")
    return UsageError(f"{where}: no finished run; create one with: bench run -t addition -M tiny-adder")
