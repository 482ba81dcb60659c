"""Scored population of a run, read from its journal: rewards per example, and the noise seed of each candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, FiniteFloat, NonNegativeInt, ValidationError

from bench.errors import UsageError, shown, usage_error
from bench.records.journal import read_entries
from bench.records.schema import Result, read_result
from bench.seeds import derive
from bench.weights.noise import Noise
from bench.weights.points import Point

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class _Step(BaseModel):
    point: str
    sigma: FiniteFloat
    examples: tuple[NonNegativeInt, NonNegativeInt]


class _Reported(BaseModel):
    """Part of a method's report that the population is read with."""

    sigmas: tuple[FiniteFloat, ...] = ()
    steps: tuple[_Step, ...] = ()


@dataclass(frozen=True)
class Moved:
    """Measurement of one step along a half's mean direction.

    Attributes:
        sigma: Length of the step.
        examples: Examples of the other half, which the step was measured on.
        correct: Whether each answer is correct, shape [examples of that half].
    """

    sigma: float
    examples: range
    correct: Bools


@dataclass(frozen=True)
class Population:
    """Candidates scored on the same examples of the support split.

    Attributes:
        sigmas: Scale of each candidate, shape [candidates].
        rewards: Rewards, shape [candidates, examples].
        correct: Whether each answer is correct, shape [candidates, examples].
        base: Whether the base's answers are correct, shape [examples]; None if the run did not score the base on them.
        seeds: Noise seed of each candidate, shape [candidates]; None if this version would draw other seeds.
        noise: Noise that a seed stands for.
        steps: Measured steps along the halves' directions; empty if the run took none.
    """

    sigmas: Floats
    rewards: Floats
    correct: Bools
    base: Bools | None
    seeds: tuple[int, ...] | None
    noise: Noise
    steps: tuple[Moved, ...]


def read_population(folder: Path) -> tuple[Result, Population]:
    """Read the population of a finished run whose method scores single perturbations on the support split.

    Raises:
        UsageError: If the run has not finished, or has no population whose candidates all answered the same examples.
    """
    result = read_result(folder)
    entries, _ = read_entries(folder / "journal.jsonl")
    return result, population_of(result, entries, str(folder))


def population_of(result: Result, entries: Iterable[Mapping[str, Any]], where: str) -> Population:
    """Return the population of a run, given its result and journal.

    Args:
        result: Result of the run.
        entries: Entries of its journal.
        where: Name of the run, for error messages.

    Raises:
        UsageError: See `read_population`.
    """
    scored = [entry for entry in entries if _sampled(entry)]
    reported = result.report.get("stage1", result.report)
    if not isinstance(reported, dict):
        raise UsageError(f"{where}: the method's report: stage1 is {shown(reported)}; expected an object")
    try:
        report = _Reported.model_validate(reported)
    except ValidationError as error:
        raise usage_error(f"{where}: the method's report", error) from error
    sigmas = np.array(report.sigmas, dtype=np.float64)
    taken = {step.point for step in report.steps}
    found = [entry for entry in scored if entry["key"]["point"] not in taken | {Point().digest}]
    rewards = [_rewards(entry) for entry in found]
    known = [i for i, row in enumerate(rewards) if not np.isnan(row).all()]
    if sigmas.size == len(found):
        sigmas = sigmas[known]  # some methods also report candidates without a single judged answer
    examples = {_examples(entry) for entry in found}
    if len(known) < 2 or sigmas.size != len(known) or len(examples) != 1:
        raise UsageError(
            f"{where}: has no population whose candidates all answered the same examples; "
            "bench run -m landscape makes one, and so do randopt and corp without racing"
        )
    found, rewards = [found[i] for i in known], [rewards[i] for i in known]
    base = [entry for entry in scored if entry["key"]["point"] == Point().digest and _examples(entry) in examples]
    table, correct = np.array(rewards), np.array([entry["value"]["correct"] for entry in found], dtype=np.bool_)
    right = np.array(base[0]["value"]["correct"], dtype=np.bool_) if base else None
    judged = ~np.isnan(table).any(axis=0)
    if base:
        judged &= ~np.isnan(_rewards(base[0]))
    if not judged.all():
        raise UsageError(f"{where}: {int((~judged).sum())} examples could not be judged for every candidate")
    noise = _noise(result, where)
    digests = [entry["key"]["point"] for entry in found]
    return Population(
        sigmas=sigmas,
        rewards=table,
        correct=correct,
        base=right,
        seeds=_seeds(result, digests, sigmas, noise, where),
        noise=noise,
        steps=tuple(_steps(scored, report.steps, where)),
    )


def _noise(result: Result, where: str) -> Noise:
    """Return the noise that the settings of a run name."""
    settings = {"noise": "iid", "scale": "plain", "modules": "all"} | result.config.method_config
    try:
        return Noise(settings["noise"], settings["scale"], settings["modules"])
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: the method's settings: {error}") from error


def _sampled(entry: Mapping[str, Any]) -> bool:
    key = entry.get("key", {})
    return (
        "trial" not in key  # of tuning: another population
        and key.get("account") == "sample"
        and str(key.get("score", "")).startswith("support ")
        and bool(entry["value"]["complete"])
    )


def _examples(entry: Mapping[str, Any]) -> tuple[str, int]:
    """Identify the examples of an entry: key of the first, such as `support 0`, and their number."""
    return str(entry["key"]["score"]), len(entry["value"]["rewards"])


def _rewards(entry: Mapping[str, Any]) -> Floats:
    return np.array([np.nan if r is None else r for r in entry["value"]["rewards"]], dtype=np.float64)


def _steps(scored: list[Mapping[str, Any]], reported: Iterable[_Step], where: str) -> Iterable[Moved]:
    by_point = {(entry["key"]["point"], entry["key"]["score"]): entry for entry in scored}
    for step in reported:
        start, stop = step.examples
        entry = by_point.get((step.point, f"support {start}"))
        if entry is None or len(entry["value"]["correct"]) != stop - start:
            raise UsageError(
                f"{where}: steps has point {shown(step.point)} on support examples {start} to {stop}; expected one "
                "that the journal has scores of"
            )
        yield Moved(step.sigma, range(start, stop), np.array(entry["value"]["correct"], dtype=np.bool_))


def _seeds(result: Result, digests: list[str], sigmas: Floats, noise: Noise, where: str) -> tuple[int, ...] | None:
    """Find the candidates' seeds by trying those that this version would draw: seed and scale decide a point's digest.

    Return None if a candidate's digest is not among them.
    """
    config = result.config
    drawn = [derive(config.seed, config.method, "population", index) for index in range(2 * len(digests))]
    scales = config.method_config.get("sigmas", [])
    made = {Point({seed: sigma}, noise).digest: (seed, sigma) for sigma in scales for seed in drawn}
    pairs = [made[digest] for digest in digests if digest in made]
    if len(pairs) < len(digests):
        return None
    # The report lists scales in the order of the journal. Nothing else would detect a different order.
    if not np.allclose([sigma for _, sigma in pairs], sigmas, rtol=1e-9, atol=0):
        raise UsageError(f"{where}: the scales of the journal's candidates differ from those in the result")
    return tuple(seed for seed, _ in pairs)
