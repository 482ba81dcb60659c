"""Transfer matrix: what models that were adapted on one task gain or lose on others, from tests of finished runs.

A row is a method adapted on a task, as trained. A column is a task that it was tested on, with the base's accuracy on
the same items. A cell is the difference from the base: on the task adapted on what was learned, and on other tasks
what was forgotten or gained. Its interval follows the rules of the tables' rows (`rows.Comparison`). Pure functions.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench.console import PlainTable
from bench.records.schema import Result
from bench.records.source import RunSource
from reports.leaderboard.group import OverSeeds
from reports.leaderboard.grouping import NO_CLUSTERS, Clusters, dtype_of
from reports.leaderboard.naming import interval_text, seeds_text, short
from reports.leaderboard.rows import as_trained
from reports.record import Record, outcomes

EXPLAINED = (
    "Difference from the base in points with its 95 % interval, as trained, on the same items; [ ] marks the task that "
    "was adapted on, and `all other tasks` joins the items of the others. Where no interval has its coverage, the cell "
    "shows the values of the seeds. The intervals are not corrected for the size of the table, and tasks that share "
    "items are not independent."
)
"""Legend below the tables."""
OTHERS = "all other tasks"


@dataclass(frozen=True)
class Tested:
    """A task that models were tested on: a column.

    Attributes:
        task: Name of the task.
        item_set: First 12 characters of the hash of the test item ids.
        items: Number of test items.
        base: Accuracy of the base; None if none of its answers was judged.
        settings: Settings of the test that a task can have several of, such as `8 new tokens, task version 2`.
    """

    task: str
    item_set: str
    items: int
    base: float | None
    settings: str = ""


@dataclass(frozen=True)
class Transferred:
    """A cell: one method, adapted on one task and tested on another.

    Attributes:
        seeds: Seeds of the runs.
        difference: Accuracy minus the base's; None if every run returned the base, or no item was judged in all.
        returned_base: Whether every run returned the base.
    """

    seeds: tuple[int, ...]
    difference: OverSeeds | None = None
    returned_base: bool = False


@dataclass(frozen=True)
class TransferRow:
    """A method adapted on a task: a row.

    Attributes:
        name: Method, the settings in which it differs from the others of its name, and the row's label.
        adapted_on: Task that it adapted on.
        cells: One for each column; None where it was not tested.
        others: All columns but the task adapted on, with their items joined; None without any.
    """

    name: str
    adapted_on: str
    cells: tuple[Transferred | None, ...]
    others: Transferred | None


@dataclass(frozen=True)
class Transfer:
    """Transfer matrix of runs that are alike in all but method, seed and tasks.

    Attributes:
        model: Name of the base.
        budget: Budget of adaptation.
        ruleset: Rules that the runs were made by.
        strategy: Test-time strategy.
        columns: Tasks tested on.
        rows: Methods by task adapted on.
        settings: Reward, prompts, gate, prompt style and precision, where they differ from the defaults.
        notes: Runs that were left out, one sentence each.
    """

    model: str
    budget: str
    ruleset: str
    strategy: str
    columns: tuple[Tested, ...]
    rows: tuple[TransferRow, ...]
    settings: str = ""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Title, such as `Transfer, tiny-adder, budget small, published, no gate: adapted on (rows), tested on`."""
        parts = (self.model, f"budget {self.budget}", self.ruleset, self.strategy, self.settings)
        named = ", ".join(part for part in parts if part not in ("", "greedy"))
        return f"Transfer, {named}: adapted on (rows), tested on"

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings of the columns. A task with several sets of items says which."""
        tasks = [column.task for column in self.columns]
        sets = [f" ({c.item_set})" if tasks.count(c.task) > 1 else "" for c in self.columns]
        settings = [f", {c.settings}" if c.settings else "" for c in self.columns]
        names = [f"{c.task}{of}, {c.items} items{own}" for c, of, own in zip(self.columns, sets, settings, strict=True)]
        return ("method", "adapted on", *names, OTHERS)

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """Texts of the rows, that of the base first."""
        base = ("base", "", *(_accuracy(column) for column in self.columns), "")
        return (base, *(self._texts(row) for row in self.rows))

    def _texts(self, row: TransferRow) -> tuple[str, ...]:
        cells = [
            f"[{text}]" if (text := _text(cell)) and column.task == row.adapted_on else text
            for cell, column in zip(row.cells, self.columns, strict=True)
        ]
        return (row.name, row.adapted_on, *cells, _text(row.others))


def _accuracy(column: Tested) -> str:
    return "not judged" if column.base is None else f"{100 * column.base:.1f} %"


def _text(cell: Transferred | None) -> str:
    if cell is None:
        return ""
    if (d := cell.difference) is None:
        return "returned the base" if cell.returned_base else "not judged"
    return f"{100 * d.value:+.1f} ({interval_text(d, '+') or seeds_text(d)})"


@dataclass(frozen=True)
class _Outcome:
    """Verdicts on one run's answers of one row to one task: 1 right, 0 wrong, negative not judged."""

    id: str
    before: NDArray[np.int8]
    now: NDArray[np.int8]
    changed: bool
    clusters: Sequence[int] | None


_Column = tuple[str, str, str, str]
_Row = tuple[str, str, str, str]


def make_transfers(records: Sequence[Record], clusters: Clusters = NO_CLUSTERS) -> tuple[Transfer, ...]:
    """Return the transfer matrices of all tests of finished runs among the records.

    The runs themselves, where they are among the records, fill the cells of the task that they adapted on.

    Args:
        records: Records of finished runs, each once.
        clusters: Cluster of each test item, by digest of the items.
    """
    sources = {record.result.source.id for record in records if isinstance(record.result.source, RunSource)}
    tables: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        result = record.result
        if result.status == "ok" and (isinstance(result.source, RunSource) or result.id in sources):
            tables[_table(result)].append(record)
    return tuple(_transfer(members, clusters) for _, members in sorted(tables.items()))


def _table(result: Result) -> tuple[str, ...]:
    """Return all that the runs of a matrix have in common.

    The limits of a test are of its column. The version of the FLOPs formula changes no answer.
    """
    config, model = result.config, result.model
    assert model is not None
    alike = (config.budget, result.ruleset, config.strategy, config.prompt, config.gate, *config.controls)
    return (model.name, model.digest, dtype_of(result), *alike)


def _settings(result: Result) -> str:
    """Return the settings of a matrix that differ from the defaults, such as `reward random, no gate`."""
    config, dtype = result.config, dtype_of(result)
    gate = ["no gate"] if config.gate == "off" else []
    prompt = [f"prompt {config.prompt}"] if config.prompt != "auto" else []
    return ", ".join([*config.controls, *gate, *prompt, *([f"dtype {dtype}"] if dtype != "auto" else [])])


def _column(record: Record) -> _Column:
    config, versions = record.result.config, record.result.versions
    """Return task, items, limit of new tokens and version of the task."""
    tokens = f"{config.max_new_tokens} new tokens" if config.max_new_tokens else ""
    version = f"task version {versions.task}" if versions else ""
    return config.task, record.items, tokens, version


def _key(result: Result, label: str) -> _Row:
    """Return task adapted on, method, settings and label of a row.

    The engine and the launch are those of the test, not of adaptation, so they are no part of a row.
    """
    config, versions = result.config, result.versions
    settings = dict(config.method_config)
    if versions:
        settings |= {"method version": versions.method, "noise version": versions.noise}
        settings["version adapted on"] = versions.adapt_on or versions.task
    return str(config.adapted_on), config.method, json.dumps(settings, sort_keys=True), label


def _transfer(records: Sequence[Record], clusters: Clusters) -> Transfer:
    notes: list[str] = []
    cells: dict[tuple[_Row, _Column], dict[int, _Outcome]] = defaultdict(dict)
    columns: dict[_Column, Tested] = {}
    # A run comes before its tests, so that a test on the same items does not count it twice.
    for record in sorted(records, key=lambda r: (r.result.source is not None, r.result.config.seed, r.result.id)):
        result, before = record.result, outcomes(record.base)
        column = _column(record)
        judged = before[before >= 0]
        accuracy = float(judged.mean()) if judged.size else None
        columns.setdefault(column, Tested(column[0], record.items[:12], before.size, accuracy))
        for row in result.artifacts:
            verdicts = record.of_label(row.label)
            assert verdicts is not None
            stems = clusters.get(record.items)
            outcome = _Outcome(result.id, before, outcomes(verdicts), row.changed, stems)
            key = _key(result, row.label)
            first = cells[key, column].setdefault(result.config.seed, outcome)
            if first is not outcome:
                equal = "equal" if np.array_equal(first.now, outcome.now) else "DIFFERENT"
                notes.append(
                    f"{' '.join(filter(None, [key[1], key[3]]))} adapted on {key[0]}, tested on {column[0]}: seed "
                    f"{result.config.seed} has several runs, with {equal} results: run {first.id[:8]} counts, and "
                    f"{result.id[:8]} not"
                )
    ordered = sorted(columns)
    columns = _named(columns)
    rows = sorted({row for row, _ in cells})
    names = _names(rows)
    found = {row: [cells.get((row, column), {}) for column in ordered] for row in rows}
    sample = records[0].result
    assert sample.model is not None
    return Transfer(
        model=sample.model.name,
        budget=sample.config.budget,
        ruleset=sample.ruleset,
        strategy=sample.config.strategy,
        columns=tuple(columns[column] for column in ordered),
        rows=tuple(_row(names[row], row, found[row], ordered) for row in rows),
        settings=_settings(sample),
        notes=tuple(notes),
    )


def _named(columns: Mapping[_Column, Tested]) -> dict[_Column, Tested]:
    """Add the settings of the columns: a limit of new tokens, and the version of a task that has several."""
    versions: dict[str, set[str]] = defaultdict(set)
    for task, _, _, version in columns:
        versions[task].add(version)
    return {
        key: replace(column, settings=", ".join(filter(None, [key[2], key[3] if len(versions[key[0]]) > 1 else ""])))
        for key, column in columns.items()
    }


def _row(name: str, row: _Row, found: Sequence[Mapping[int, _Outcome]], columns: Sequence[_Column]) -> TransferRow:
    others = [cell for cell, column in zip(found, columns, strict=True) if cell and column[0] != row[0]]
    return TransferRow(name, row[0], tuple(_cell([cell]) for cell in found), _cell(others))


def _cell(parts: Sequence[Mapping[int, _Outcome]]) -> Transferred | None:
    """Return the difference over the items of several columns, over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(part) for part in parts))) if parts else []
    if not seeds:
        return None
    before, now = (
        np.concatenate([np.stack([getattr(part[seed], name) for seed in seeds], axis=1) for part in parts])
        for name in ("before", "now")
    )
    judged = (before >= 0).all(axis=1) & (now >= 0).all(axis=1)
    changed = np.array([any(part[seed].changed for part in parts) for seed in seeds])
    if not (changed.any() and judged.any()):
        return Transferred(tuple(seeds), returned_base=not changed.any())
    stems = _stems([next(iter(part.values())) for part in parts])
    old, new = before[judged].astype(float), now[judged].astype(float)
    found = as_trained(old, new, changed, None if stems is None else stems[judged])
    return Transferred(tuple(seeds), found.difference(1))


def _stems(parts: Sequence[_Outcome]) -> NDArray[np.int_] | None:
    """Return the cluster of each item of several tasks; None if no task has clusters. No two tasks share one."""
    if all(part.clusters is None for part in parts):
        return None
    found: list[NDArray[np.int_]] = []
    for part in parts:
        own = np.arange(part.now.size) if part.clusters is None else np.asarray(part.clusters)
        found.append(own + (found[-1].max() + 1 if found else 0))
    return np.concatenate(found)


def _names(rows: Sequence[_Row]) -> dict[_Row, str]:
    """Name each row by its method, the settings in which it differs from others of that method, and its label."""
    names = {}
    for row in rows:
        _, method, settings, label = row
        siblings = [json.loads(other[2]) for other in rows if other[1] == method]
        mine = json.loads(settings)
        differing = [f"{k}={short(v)}" for k, v in mine.items() if any(other.get(k) != v for other in siblings)]
        names[row] = " ".join(filter(None, [method, *differing, label]))
    return names


def print_transfers(console: Console, transfers: Sequence[Transfer]) -> None:
    """Print one table per matrix."""
    for transfer in transfers:
        names, tasks = transfer.headings[:2], transfer.headings
        console.print(PlainTable(tasks, list(transfer.texts), names, folds=tasks, title=transfer.title))
        for note in transfer.notes:
            console.print(note, markup=False, highlight=False)
        console.print(EXPLAINED, markup=False, highlight=False, style="dim")
        console.print()
