"""From records to one table: runs of one task, model, budget and item set, seeds averaged. Pure but for reading files.

Rows are compared only within a group, and every accuracy stands beside what it cost. A run that did not end well is a
row with its reason.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import ADAPTATION
from bench.records.schema import Result, Row, Sample, read_result
from bench.stats import Estimate, accuracy_over_seeds, difference_over_seeds

MATCHED = 0.95
"""Share of the budget that a row must have spent for its compute to be called matched."""


@dataclass(frozen=True)
class Run:
    """One record with its judged test answers.

    Attributes:
        result: The record.
        correct: By row label, then by example id: whether it counts. What could not be judged is left out.
        base: By example id: whether the base's answer counts.
    """

    result: Result
    correct: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    base: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        name: Method, row label and the settings in which its runs differ from each other in this group.
        seeds: Seeds that ended well.
        accuracy: Mean over seeds; None if no seed ended well.
        difference: Against the base on the same items; None for the base itself.
        evaluations: Model-prompt evaluations of adaptation, mean over seeds.
        flops: FLOPs of adaptation, mean over seeds.
        spent: Share of the budget, mean over seeds.
        passes: Forward passes of one answer.
        answer_flops: FLOPs of one answer.
        problems: Status and reason of seeds that did not end well.
    """

    name: str
    seeds: tuple[int, ...] = ()
    accuracy: Estimate | None = None
    difference: Estimate | None = None
    evaluations: float = 0.0
    flops: float = 0.0
    spent: float = 0.0
    passes: float = 0.0
    answer_flops: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def matched(self) -> bool:
        """Whether it spent the budget, but for at most 5 %."""
        return self.spent >= MATCHED


@dataclass(frozen=True)
class Group:
    """What may be compared: one task or pair of tasks, model, budget and item set.

    Attributes:
        task: Name, or `mbpp to humaneval`.
        model: Name.
        budget: Name of the budget.
        items: Test items.
        lines: The base first, then by accuracy.
    """

    task: str
    model: str
    budget: str
    items: int
    lines: tuple[Line, ...]


def read_run(folder: Path) -> Run:
    """Read a finished run with its samples.

    Raises:
        bench.errors.BenchError: If the folder holds none, or one that cannot be read.
    """
    result = read_result(folder)
    correct: dict[str, dict[str, bool]] = defaultdict(dict)
    base: dict[str, bool] = {}
    samples = folder / "samples.jsonl"
    for line in samples.read_text().splitlines() if samples.exists() else ():
        sample = Sample.model_validate_json(line)
        if sample.correct is not None:
            correct[sample.row][sample.id] = sample.correct
        if sample.base_correct is not None:
            base[sample.id] = sample.base_correct
    return Run(result, correct, base)


def tabulate(runs: Sequence[Run]) -> list[Group]:
    """Group runs and make their tables, in the order of task, model and size of the budget."""
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[_comparable(run.result)].append(run)
    ordered = sorted(groups.items(), key=lambda item: item[0][:3])
    return [_group(members) for _, members in ordered]


def _comparable(result: Result) -> tuple[Any, ...]:
    config, budget = result.config, result.budget
    size = budget.evaluations if budget else 0
    model = result.model.digest if result.model else ""
    versions = (result.versions.task, result.versions.adapt_on) if result.versions else ()
    prompt, limit = result.prompt or config.prompt, config.limit or 0
    # A run that failed early knows less of itself; it stands with those of the same configuration.
    return config.subject, config.model, size, versions, result.content_hash, limit, prompt, model


def _group(runs: Sequence[Run]) -> Group:
    first = runs[0].result
    base = _base(runs)
    variants: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.result.config.method != "base":
            settings = json.dumps(run.result.config.method_config, sort_keys=True)
            variants[run.result.config.method, settings].append(run)
    names = _names(list(variants))
    lines = [line for key, members in variants.items() for line in _lines(names[key], members)]
    lines.sort(key=lambda line: (line.accuracy is None, -line.accuracy.value if line.accuracy else 0.0, line.name))
    items = len(runs[0].base) or max((len(run.base) for run in runs), default=0)
    return Group(first.config.subject, first.config.model, first.config.budget, items, (*base, *lines))


def _base(runs: Sequence[Run]) -> tuple[Line, ...]:
    """The base's line from any run that has it: every run lets the base answer the same items."""
    for run in runs:
        if run.result.base and run.result.base_cost:
            cost = run.result.base_cost
            accuracy = accuracy_over_seeds(np.array([list(run.base.values())], dtype=float).T)
            return (Line("base", (), accuracy, passes=cost.evaluations, answer_flops=cost.flops),)
    return ()


def _names(variants: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Name variants of a method by the settings in which they differ."""
    names = {}
    for method, settings in variants:
        siblings = [json.loads(other) for name, other in variants if name == method]
        mine = json.loads(settings)
        told = [f"{key}={_short(value)}" for key, value in mine.items() if any(s.get(key) != value for s in siblings)]
        names[method, settings] = " ".join([method, *told])
    return names


def _short(value: Any) -> str:
    return (
        ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) if isinstance(value, list) else str(value)
    )


def _lines(name: str, runs: Sequence[Run]) -> list[Line]:
    good = sorted((run for run in runs if run.result.rows), key=lambda run: run.result.config.seed)
    problems = tuple(
        f"seed {run.result.config.seed}: {run.result.status}: {run.result.reason}"
        for run in runs
        if not run.result.rows
    )
    if not good:
        return [Line(name, problems=problems)]
    labels = dict.fromkeys(row.label for run in good for row in run.result.rows)
    return [_line(f"{name} {label}".strip(), label, good, problems) for label in labels]


def _line(name: str, label: str, runs: Sequence[Run], problems: tuple[str, ...]) -> Line:
    runs = [run for run in runs if label in run.correct]
    rows: list[Row] = [next(row for row in run.result.rows if row.label == label) for run in runs]
    shared = [i for i in runs[0].correct[label] if all(i in run.correct[label] and i in run.base for run in runs)]
    now = _matrix([run.correct[label] for run in runs], shared)
    before = _matrix([run.base for run in runs], shared)
    adaptation = [[run.result.ledger[a] for a in ADAPTATION if a in run.result.ledger] for run in runs]
    return Line(
        name=name,
        seeds=tuple(run.result.config.seed for run in runs),
        accuracy=accuracy_over_seeds(now),
        difference=difference_over_seeds(before, now),
        evaluations=float(np.mean([sum(account.work.evaluations for account in of) for of in adaptation])),
        flops=float(np.mean([sum(account.flops for account in of) for of in adaptation])),
        spent=float(np.mean([run.result.budget.share if run.result.budget else 0.0 for run in runs])),
        passes=float(np.mean([row.cost.evaluations for row in rows])),
        answer_flops=float(np.mean([row.cost.flops for row in rows])),
        problems=problems,
    )


def _matrix(answers: Sequence[Mapping[str, bool]], items: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[float(a[i]) for a in answers] for i in items]).reshape(len(items), len(answers))
