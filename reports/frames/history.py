"""Lines of the tables of candidates and curves, from the reports of methods and from journals. Pure functions.

Methods may put anything into their reports. A part in another shape than `reports.run.history` knows gives no lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, FiniteFloat, NonNegativeInt

from reports.frames.lines import Block, of_run
from reports.record import Record
from reports.run.history import ReportedPopulation, ReportedTraining, read_shape

Entries = Iterable[Mapping[str, Any]]
"""Entries of a journal."""


class _Round(BaseModel):
    scores: list[FiniteFloat | None]
    voters: list[NonNegativeInt] = []


class _Iteration(BaseModel):
    candidates: NonNegativeInt
    examples: tuple[NonNegativeInt, NonNegativeInt]


class _Search(BaseModel):
    sigma: FiniteFloat | None = None


class _Key(BaseModel):
    account: Literal["sample"]
    score: str
    n: NonNegativeInt
    trial: tuple[int, int] | None = None


class _Value(BaseModel):
    complete: Literal[True]
    rewards: list[FiniteFloat | None]


class _Scored(BaseModel):
    """Scores of one candidate in a journal."""

    key: _Key
    value: _Value


def candidates(record: Record, entries: Entries = ()) -> Iterator[Block]:
    """Yield a block for each scored population of a run.

    Args:
        record: Record of the run.
        entries: Entries of its journal; none for a record file.
    """
    scored = [found for entry in entries if (found := read_shape(_Scored, entry))]
    for place, report in _reports(record):
        for block in _populations(report, [entry for entry in scored if entry.key.trial == place]):
            yield {**of_run(record.result), **_named(place), **block}


def curves(record: Record) -> Iterator[Block]:
    """Yield a block for each curve of a run."""
    for place, report in _reports(record):
        for block in _curves(report):
            yield {**of_run(record.result), **_named(place), **block}


_Place = tuple[int, int] | None
"""Rung and number of a trial; None for the final run."""


def _reports(record: Record) -> Iterator[tuple[_Place, Mapping[str, Any]]]:
    """Yield the method's report, and before it those of the trials, each with its place."""
    report = record.result.report
    tuning = report.get("tuning")
    trials = tuning.get("trials") if isinstance(tuning, dict) else None
    for trial in trials if isinstance(trials, list) else ():
        match trial:
            case {"rung": int(rung), "trial": int(number), "report": dict(own)}:
                yield (rung, number), own
    yield None, report


def _named(place: _Place) -> Block:
    return {} if place is None else {"rung": place[0], "trial": place[1]}


def is_in_journal(record: Record) -> bool:
    """Return whether the journal of a run has candidates that no report lists one by one."""
    return any(_tables(report.get("trajectory")) for _, report in _reports(record))


def _populations(report: Mapping[str, Any], entries: Sequence[_Scored]) -> Iterator[Block]:
    part = report.get("stage1", report)
    if population := read_shape(ReportedPopulation, part):
        count = len(population.rewards)
        asked, examples = _integers(part.get("asked")), _integers([part.get("examples")])
        known: list[int] | None = asked if len(asked) == count else examples * count or None
        weights = dict(zip(population.elite, population.weights, strict=True))
        yield {
            "candidate": range(count),
            "sigma": population.sigmas,
            "reward": population.rewards,
            "examples": known,
            "rank": _ranks(_integers(part.get("ranked")), count),
            "weight": [weights.get(index) for index in range(count)],
        }
    sigma = read_shape(_Search, report)
    for number, entry in enumerate(_tables(report.get("rounds")), start=1):
        if found := read_shape(_Round, entry):
            count = len(found.scores)
            ranked = _ranks(found.voters, count)
            drawn = {"candidate": range(count), "sigma": sigma and sigma.sigma}
            yield {"round": number, **drawn, "reward": found.scores, "rank": ranked}
    if trajectory := _tables(report.get("trajectory")):
        yield from _iterations(trajectory, sigma.sigma if sigma else None, entries)


def _integers(value: Any) -> list[int]:
    """Return a list of integers; an empty one if the value is anything else."""
    known = isinstance(value, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    return value if known else []


def _ranks(ranked: Sequence[int], count: int) -> list[int | None]:
    ranks = {index: rank for rank, index in enumerate(ranked, start=1)}
    return [ranks.get(index) for index in range(count)]


def _iterations(
    trajectory: Sequence[Mapping[str, Any]], sigma: float | None, entries: Sequence[_Scored]
) -> Iterator[Block]:
    """Yield the candidates of each iteration, whose rewards the journal has in their order.

    The report has their number, so that iterations on the same examples are told apart.
    """
    waiting = list(reversed(entries))
    for number, reported in enumerate(trajectory, start=1):
        iteration = read_shape(_Iteration, reported)
        if iteration is None:
            return
        first, last = iteration.examples
        rewards: list[float | None] = []
        while waiting and sum(reward is not None for reward in rewards) < iteration.candidates:
            entry = waiting.pop()
            known = [reward for reward in entry.value.rewards if reward is not None]
            if (entry.key.score, entry.key.n) == (f"support {first}", last - first):
                rewards.append(float(np.mean(known)) if known else None)
        if rewards:
            drawn = {"candidate": range(len(rewards)), "sigma": sigma, "examples": last - first}
            yield {"round": number, **drawn, "reward": rewards}


def _curves(report: Mapping[str, Any]) -> Iterator[Block]:
    rounds = enumerate(_tables(report.get("rounds")), start=1)
    trained: list[tuple[int | None, Any]] = [(n, entry["training"]) for n, entry in rounds if "training" in entry]
    # The report itself repeats the training of the last round.
    for number, training in trained or [(None, report.get("training"))]:
        if found := read_shape(ReportedTraining, training):
            for name, values in found.curve.items():
                steps = found.curve.get("step", [*range(1, len(values) + 1)])
                whole = [int(step) for step in steps if step is not None and step.is_integer()]
                if name != "step" and len(whole) == len(values):
                    yield {"round": number, "curve": "training", "step": whole, "quantity": name, "value": values}
    trajectory = _tables(report.get("trajectory"))
    for name in dict.fromkeys(name for entry in trajectory for name, value in entry.items() if _is_number(value)):
        points = [(step, entry[name]) for step, entry in enumerate(trajectory, start=1) if _is_number(entry.get(name))]
        steps_, values_ = zip(*points, strict=True)
        yield {"curve": "trajectory", "step": list(steps_), "quantity": name, "value": list(values_)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tables(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
