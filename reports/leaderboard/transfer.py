"""Transfer matrix: what models that were adapted on one task gain or lose on others, from tests of finished runs.

A row is a method adapted on a task, as trained. A column is a task that it was tested on, with the base's accuracy on
the same items. A cell is the difference from the base: on the task adapted on what was learned, and on other tasks
what was forgotten or gained. Pure functions.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.records.schema import Result
from bench.records.source import RunSource
from bench.stats import Estimate, difference_over_seeds
from reports.leaderboard.naming import short
from reports.record import Record, outcomes

EXPLAINED = (
    "Difference from the base in points with its 95 % interval, as trained, on the same items; [ ] marks the task that "
    "was adapted on, and `all other tasks` joins the items of the others. The intervals are not corrected for the size "
    "of the table, and tasks that share items are not independent."
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
        base: Accuracy of the base.
    """

    task: str
    item_set: str
    items: int
    base: float


@dataclass(frozen=True)
class Transferred:
    """A cell: one method, adapted on one task and tested on another.

    Attributes:
        seeds: Seeds of the runs.
        difference: Accuracy minus the base's; None if every run returned the base.
    """

    seeds: tuple[int, ...]
    difference: Estimate | None = None


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
    """Transfer matrix of one base, budget, ruleset and strategy.

    Attributes:
        model: Name of the base.
        budget: Budget of adaptation.
        ruleset: Rules that the runs were made by.
        strategy: Test-time strategy.
        columns: Tasks tested on.
        rows: Methods by task adapted on.
    """

    model: str
    budget: str
    ruleset: str
    strategy: str
    columns: tuple[Tested, ...]
    rows: tuple[TransferRow, ...]

    @property
    def title(self) -> str:
        """Title, such as `Transfer, tiny-adder, budget small, published settings: adapted on (rows), tested on ...`."""
        strategy = "" if self.strategy == "greedy" else f", {self.strategy}"
        return f"Transfer, {self.model}, budget {self.budget}, {self.ruleset}{strategy}: adapted on (rows), tested on"

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings of the columns. A task with several sets of items says which."""
        tasks = [column.task for column in self.columns]
        sets = [f" ({c.item_set})" if tasks.count(c.task) > 1 else "" for c in self.columns]
        names = [f"{c.task}{name}, {c.items} items" for c, name in zip(self.columns, sets, strict=True)]
        return ("method", "adapted on", *names, OTHERS)

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """Texts of the rows, that of the base first."""
        base = ("base", "", *(f"{100 * column.base:.1f} %" for column in self.columns), "")
        return (base, *(self._texts(row) for row in self.rows))

    def _texts(self, row: TransferRow) -> tuple[str, ...]:
        cells = [
            f"[{text}]" if (text := _text(cell)) and column.task == row.adapted_on else text
            for cell, column in zip(row.cells, self.columns, strict=True)
        ]
        return (row.name, row.adapted_on, *cells, _text(row.others))


def _text(cell: Transferred | None) -> str:
    if cell is None:
        return ""
    if (d := cell.difference) is None:
        return "returned the base"
    return f"{100 * d.value:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"


@dataclass(frozen=True)
class _Outcome:
    """Verdicts on one run's answers of one row to one task: 1 right, 0 wrong, negative not judged."""

    before: NDArray[np.int8]
    now: NDArray[np.int8]
    changed: bool


_Column = tuple[str, str]
_Row = tuple[str, str, str, str]


def make_transfers(records: Sequence[Record]) -> tuple[Transfer, ...]:
    """Return the transfer matrices of all tests of finished runs among the records.

    The runs themselves, where they are among the records, fill the cells of the task that they adapted on.
    """
    sources = {record.result.source.id for record in records if isinstance(record.result.source, RunSource)}
    tables: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in {record.result.id: record for record in records}.values():
        result = record.result
        if result.status == "ok" and (isinstance(result.source, RunSource) or result.id in sources):
            tables[_table(result)].append(record)
    return tuple(_transfer(members) for _, members in sorted(tables.items()))


def _table(result: Result) -> tuple[str, ...]:
    config, model, dtype = result.config, result.model, str(result.engine.get("dtype", ""))
    assert model is not None
    return (model.name, model.digest, dtype, config.budget, result.ruleset, config.strategy, config.prompt)


def _transfer(records: Sequence[Record]) -> Transfer:
    cells: dict[tuple[_Row, _Column], dict[int, _Outcome]] = defaultdict(dict)
    columns: dict[_Column, Tested] = {}
    # A run comes before its tests, so that a test on the same items does not count it twice.
    for record in sorted(records, key=lambda r: (r.result.source is not None, r.result.config.seed, r.result.id)):
        result, before = record.result, outcomes(record.base)
        column = (result.config.task, record.items)
        judged = before[before >= 0]
        columns.setdefault(column, Tested(column[0], record.items[:12], before.size, float(judged.mean())))
        for row in result.artifacts:
            verdicts = record.of_label(row.label)
            assert verdicts is not None
            settings = json.dumps(result.config.method_config, sort_keys=True)
            key = (str(result.config.adapted_on), result.config.method, settings, row.label)
            cells[key, column].setdefault(result.config.seed, _Outcome(before, outcomes(verdicts), row.changed))
    ordered = sorted(columns)
    rows = sorted({row for row, _ in cells})
    names = _names(rows)
    found = {row: [cells.get((row, column), {}) for column in ordered] for row in rows}
    first = records[0].result
    assert first.model is not None
    return Transfer(
        model=first.model.name,
        budget=first.config.budget,
        ruleset=first.ruleset,
        strategy=first.config.strategy,
        columns=tuple(columns[column] for column in ordered),
        rows=tuple(_row(names[row], row, found[row], ordered) for row in rows),
    )


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
    changed = any(part[seed].changed for part in parts for seed in seeds)
    if not (changed and judged.any()):
        return Transferred(tuple(seeds))
    return Transferred(tuple(seeds), difference_over_seeds(before[judged], now[judged]))


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
        table = Table(title=escape(transfer.title), title_justify="left", box=None, pad_edge=False)
        for heading in transfer.headings:
            left = heading in ("method", "adapted on")
            table.add_column(heading, justify="left" if left else "right", overflow="fold")
        for row in transfer.texts:
            table.add_row(*map(escape, row))
        console.print(table)
        console.print(EXPLAINED, markup=False, highlight=False, style="dim")
        console.print()
