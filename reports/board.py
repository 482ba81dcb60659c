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
from pydantic import ValidationError

from bench.compute.budget import budget_evaluations
from bench.compute.ledger import ADAPTATION
from bench.errors import BenchError
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
        spent: Share of the budget, the least over seeds.
        passes: Forward passes of one answer.
        answer_flops: FLOPs of one answer.
        problems: Status and reason of seeds that did not end well.
        budgeted: Whether the method planned to spend any budget.
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
    budgeted: bool = True

    @property
    def matched(self) -> bool:
        """Whether every seed spent the budget, but for at most 5 %; a method that plans nothing is not asked."""
        return not self.budgeted or self.spent >= MATCHED


@dataclass(frozen=True)
class Group:
    """What may be compared: one task or pair of tasks, model, budget and item set.

    Attributes:
        task: Name, or `mbpp to humaneval`.
        model: Name.
        budget: Name of the budget.
        strategy: How test answers come about.
        items: Test items.
        lines: The base first, then by accuracy.
        notes: What a reader must know of the group.
    """

    task: str
    model: str
    budget: str
    strategy: str
    items: int
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def read_run(folder: Path) -> Run:
    """Read a finished run with its samples.

    Raises:
        BenchError: If the folder holds none, or one that cannot be read.
    """
    result = read_result(folder)
    correct: dict[str, dict[str, bool]] = defaultdict(dict)
    base: dict[str, bool] = {}
    path = folder / "samples.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            sample = Sample.model_validate_json(line)
        except ValidationError as error:
            raise BenchError(f"{path}, line {number}: no sample of this version; run it again") from error
        if sample.correct is not None:
            correct[sample.row][sample.id] = sample.correct
        if sample.base_correct is not None:
            base[sample.id] = sample.base_correct
    if result.rows and not lines:
        raise BenchError(f"{path}: missing or empty, though the run ended well; nothing can be compared without it")
    return Run(result, correct, base)


def tabulate(runs: Sequence[Run]) -> list[Group]:
    """Group runs and make their tables, in the order of task, model and size of the budget.

    A run that is given twice counts once.
    """
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in {run.result.id: run for run in runs}.values():
        groups[_comparable(run.result)].append(run)
    ordered = sorted(groups.items(), key=lambda item: [str(part).zfill(12) for part in item[0]])
    return [group for _, members in ordered for group in _groups(members)]


def _comparable(result: Result) -> tuple[Any, ...]:
    """What runs must have in common to be compared, as far as their configuration tells."""
    config = result.config
    versions = (result.versions.task, result.versions.adapt_on) if result.versions else ()
    size = budget_evaluations(config.budget)
    return (
        config.subject,
        config.model,
        size,
        config.strategy,
        versions,
        result.content_hash,
        config.limit,
        config.prompt,
        config.dtype,
    )


def _groups(runs: Sequence[Run]) -> list[Group]:
    """Divide by the weights that were loaded; a run that failed before it loaded any stands with the first."""
    loaded = list(dict.fromkeys(run.result.model.digest for run in runs if run.result.model)) or [""]
    return [
        _group([run for run in runs if (run.result.model.digest if run.result.model else loaded[0]) == digest])
        for digest in loaded
    ]


def _group(runs: Sequence[Run]) -> Group:
    variants: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.result.config.method != "base":
            variants[run.result.config.method, _settings(run.result)].append(run)
    names = _names(list(variants))
    lines = [line for key, members in variants.items() for line in _lines(names[key], members)]
    lines.sort(key=lambda line: (line.accuracy is None, -line.accuracy.value if line.accuracy else 0.0, line.name))
    items = max((len(run.base) for run in runs), default=0)
    config, base = runs[0].result.config, _base(runs)
    notes = _notes(runs, base, lines)
    return Group(config.subject, config.model, config.budget, config.strategy, items, (*base, *lines), notes)


def _settings(result: Result) -> str:
    """Everything but the seed that tells two runs of a method apart, as sorted JSON."""
    versions = result.versions.model_dump(exclude={"task", "adapt_on"}) if result.versions else {}
    engine = {f"engine {name}": value for name, value in result.engine.items()}
    launch = {f"launch {name}": value for name, value in result.config.launched.items()}
    told = {**result.config.method_config, **{f"{name} version": v for name, v in versions.items()}, **engine, **launch}
    return json.dumps(told, sort_keys=True)


def _base(runs: Sequence[Run]) -> tuple[Line, ...]:
    """The base's line: every run lets the base answer the same items, and the first that did speaks for all."""
    problems = _problems([run for run in runs if run.result.config.method == "base"])
    for run in runs:
        if run.result.base_cost and run.base:
            cost = run.result.base_cost
            accuracy = accuracy_over_seeds(np.array([list(run.base.values())], dtype=float).T)
            return (Line("base", (), accuracy, passes=cost.evaluations, answer_flops=cost.flops, problems=problems),)
    return (Line("base", problems=problems),) if problems else ()


def _problems(runs: Sequence[Run]) -> tuple[str, ...]:
    """Status and reason of runs that did not end well."""
    return tuple(
        f"seed {run.result.config.seed}: {run.result.status}: {run.result.reason}"
        for run in runs
        if not run.result.rows
    )


def _notes(runs: Sequence[Run], base: Sequence[Line], lines: Sequence[Line]) -> tuple[str, ...]:
    said = [f"{line.name}: {problem}" for line in (*base, *lines) for problem in line.problems]
    answers = [run.base for run in runs if run.base]
    if any(base != answers[0] for base in answers):
        said.append("the base's answers differ between runs; each row is compared with those of its own runs")
    unmatched = [line.name for line in lines if line.difference and not line.matched]
    if unmatched:
        said.append(f"not matched in compute, since they spent less than 95 % of the budget: {', '.join(unmatched)}")
    dearest = max((line.passes for line in lines if line.accuracy), default=1.0)
    sampled = [line.passes for line in lines if line.accuracy and line.name.startswith("self-consistency")]
    if dearest > max(sampled, default=1.0):
        said.append(f"no self-consistency row costs as many passes an answer as the dearest row, {dearest:g}")
    if any(len(line.seeds) > 1 for line in lines):
        said.append(
            "intervals and p-values are over items, for these seeds and not for seeds at large, and not corrected for "
            "the number of rows"
        )
    return tuple(said)


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
    problems = _problems(runs)
    if not good:
        return [Line(name, problems=problems)]
    labels = dict.fromkeys(row.label for run in good for row in run.result.rows)
    return [_line(f"{name} {label}".strip(), label, good, problems) for label in labels]


def _line(name: str, label: str, runs: Sequence[Run], problems: tuple[str, ...]) -> Line:
    runs = [run for run in runs if any(row.label == label for row in run.result.rows)]
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
        spent=min(run.result.budget.share if run.result.budget else 0.0 for run in runs),
        passes=float(np.mean([row.cost.evaluations for row in rows])),
        answer_flops=float(np.mean([row.cost.flops for row in rows])),
        problems=problems,
        budgeted=any(run.result.budget and run.result.budget.planned for run in runs),
    )


def _matrix(answers: Sequence[Mapping[str, bool]], items: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[float(a[i]) for a in answers] for i in items]).reshape(len(items), len(answers))
