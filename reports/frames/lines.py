"""Lines of the tables from records, in blocks. Pure functions.

A block is a part of a table: lists of equal length, or one value for all its lines, by the name of the column. A column
that it does not name is missing in all its lines.

    {"run": "9c1f...", "account": ["sample", "gate"], "flops": [1.2e9, 3.1e8]}
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.compute.ledger import ADAPTATION
from bench.records.samples import Sample
from bench.records.schema import Result
from bench.records.source import RunSource
from reports.frames import tables
from reports.frames.columns import Table, fitting
from reports.leaderboard.board import Board
from reports.leaderboard.group import OverSeeds
from reports.leaderboard.grouping import dtype_of
from reports.leaderboard.rows import adaptation
from reports.record import RIGHT, UNJUDGED, Record

Block = dict[str, Any]


def of_run(result: Result) -> Block:
    """Return the columns that name the run."""
    config = result.config
    return {
        "run": result.id,
        "task": config.task,
        "model": config.model_label,
        "method": config.method,
        "budget": config.budget,
        "ruleset": result.ruleset,
        "seed": config.seed,
    }


def of_row(result: Result, index: int) -> Block:
    """Return the columns that name a row of a run."""
    row = result.rows[index]
    method = "base" if row.kind == "base" else result.config.method
    return {**of_run(result), "method": method, "row": index, "kind": row.kind, "label": row.label}


def runs(record: Record) -> Block:
    """Return the line of a run."""
    result, config = record.result, record.result.config
    evaluations, flops = adaptation(record)
    return {
        **tables.RESULT.of(result),
        **tables.MODEL.of(result.model),
        **tables.PROCESSOR.of(result.processor),
        **tables.VERSIONS.of(result.versions),
        **tables.BUDGET.of(result.budget),
        **of_run(result),
        **{f"split_{name}": result.splits.get(name) for name in ("support", "select", "gate", "test")},
        "adapted_on": config.adapted_on,
        "strategy": config.strategy,
        "gate": config.gate,
        "controls": ", ".join(config.controls),
        "settings": _json(config.method_config),
        "chosen": _json(result.tuning.chosen) if result.tuning else None,
        "limit": config.limit,
        "max_new_tokens": config.max_new_tokens,
        "dtype": dtype_of(result),
        "item_set": _item_set(record),
        "items": len(record.base),
        "evaluations": evaluations,
        "flops": flops,
        "seconds": result.timing.total if result.timing else None,
        "engine": config.engine,
        "flops_version": result.versions.flops if result.versions else None,
        "source": result.source.kind if result.source else None,
        "source_run": result.source.id if isinstance(result.source, RunSource) else None,
    }


def whole(table: Table, line: Block) -> Block:
    """Return a line with all columns of its table, in order."""
    return {column.name: fitting(column, [line.get(column.name)])[0] for column in table.columns}


def board(made: Board) -> Iterator[Block]:
    """Yield the lines of a board."""
    for group in made.groups:
        for line in group.lines:
            gated = line.gated.difference if line.gated else None
            yield {
                **tables.GROUP.of(group),
                **tables.LINE.of(line),
                **_over_seeds(line.accuracy, "accuracy", "low", "high"),
                **_over_seeds(line.difference, "difference", "difference_low", "difference_high"),
                "p_value": line.difference.p_value if line.difference else None,
                "seeds": len(line.seeds),
                **tables.LINE_COSTS.of(line),
                **tables.GATED.of(line.gated),
                **_over_seeds(gated, "gated_difference", "gated_difference_low", "gated_difference_high"),
            }


def _over_seeds(found: OverSeeds | None, value: str, low: str, high: str) -> Block:
    return {} if found is None else {value: found.value, low: found.low, high: found.high}


def rows(record: Record) -> Iterator[Block]:
    """Yield the line of each row of a result."""
    for index, row in enumerate(record.result.rows):
        yield {
            **of_row(record.result, index),
            **tables.ACCURACY.of(row.accuracy),
            **tables.COMPARISON.of(row.comparison),
            **tables.COST.of(row.cost),
            **tables.ROW_PART.of(row),
            **tables.THOUGHTS.of(row.thoughts),
            **tables.MOVE.of(row.move),
            "move_energy": _json(row.move.energy) if row.move and row.move.energy else None,
            **tables.GATE.of(row.gate),
            "measures": _json(row.measures),
        }


def coverage(record: Record) -> Iterator[Block]:
    """Yield the line of each pass@k."""
    for index, row in enumerate(record.result.rows):
        for found in row.coverages:
            yield {
                **of_row(record.result, index),
                **tables.PASS_AT_K.of(found),
                **tables.COST.of(found.cost),
                **tables.PASS_DIFFERENCE.of(found.difference),
            }


def samples(record: Record, answers: Iterable[Sample]) -> Iterator[Block]:
    """Yield a block with the answers of each row that has answers of its own.

    Args:
        record: Record of the run.
        answers: Samples of the run; none for a record file, which has verdicts alone.
    """
    answered = [index for index, row in enumerate(record.result.rows) if row.answers_of is None]
    by_row: dict[int, dict[str, Sample]] = defaultdict(dict)
    for sample in answers:
        by_row[sample.row][sample.id] = sample
    for index, verdicts in zip(answered, record.verdicts, strict=True):
        block = {**of_row(record.result, index), "item_set": _item_set(record), "item": range(len(verdicts))}
        if by_row:
            found = [by_row[index][item] for item in by_row[0]]  # the order of the verdicts
            parts = [{**tables.SAMPLE.of(sample), "prompt": sample.question or None} for sample in found]
            yield block | _columns(parts)
        else:
            correct = [None if verdict == UNJUDGED else verdict == RIGHT for verdict in verdicts]
            yield block | {"correct": correct, "cluster": record.clusters}


def ledger(record: Record) -> Iterator[Block]:
    """Yield the line of each account."""
    seconds: Mapping[Any, float] = record.result.timing.accounts if record.result.timing else {}
    for account, row in record.result.ledger.items():
        yield {
            **of_run(record.result),
            "account": account,
            "billed": account in ADAPTATION,
            **tables.WORK.of(row.work),
            **tables.ACCOUNT.of(row),
            "seconds": seconds.get(account),
        }


def tuning(record: Record) -> Iterator[Block]:
    """Yield the line of each trial of each rung."""
    tuned = record.result.tuning
    for trial in tuned.trials if tuned else ():
        yield {
            **of_run(record.result),
            **tables.TRIAL.of(trial),
            "settings": _json(trial.settings),
            "chosen": tuned is not None and trial.trial == tuned.trial,
        }


def _item_set(record: Record) -> str:
    return record.items[:12]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _columns(lines: Sequence[Mapping[str, Any]]) -> Block:
    """Return lines as columns."""
    return {name: [line[name] for line in lines] for name in lines[0]} if lines else {}
