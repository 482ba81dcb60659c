"""A scored population as a run's journal holds it: item by item, with the noise that each candidate was made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.records.journal import read_entries
from bench.records.schema import Result, read_result
from bench.seeds import derive
from bench.weights.noise import NoiseKind
from bench.weights.points import Point

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Moved:
    """One step along a half's mean direction.

    Attributes:
        sigma: Its length.
        examples: Those of the other half, which it was measured on.
        correct: [examples of that half], whether each is right.
    """

    sigma: float
    examples: range
    correct: Bools


@dataclass(frozen=True)
class Population:
    """Candidates on the examples of the support split that scored them all.

    Attributes:
        sigmas: [candidates], scales.
        rewards: [candidates, examples].
        correct: [candidates, examples], whether each answer is right.
        base: [examples], whether the base's is; None where the run did not score it on them.
        seeds: [candidates], noise directions; None where they are not those that this version draws.
        noise: What a seed stands for.
        steps: Along the halves' directions; empty where the run took none.
    """

    sigmas: Floats
    rewards: Floats
    correct: Bools
    base: Bools | None
    seeds: tuple[int, ...] | None
    noise: NoiseKind
    steps: tuple[Moved, ...]


def read_population(folder: Path) -> tuple[Result, Population]:
    """Read the population of a finished run of a method that scores single perturbations on the support split.

    Raises:
        UsageError: If the run has not finished, or holds none in which all candidates answered the same examples.
    """
    result = read_result(folder)
    entries, _ = read_entries(folder / "journal.jsonl")
    return result, population_of(result, entries, str(folder))


def population_of(result: Result, entries: Iterable[Mapping[str, Any]], where: str) -> Population:
    """Return the population of a result and its journal; see `read_population`."""
    scored = [entry for entry in entries if _sampled(entry)]
    report = result.report.get("stage1", result.report)
    sigmas = np.array(report.get("sigmas", []), dtype=np.float64)
    taken = {step["point"] for step in report.get("steps", [])}
    found = [entry for entry in scored if entry["key"]["point"] not in taken | {Point().digest}]
    rewards = [_rewards(entry) for entry in found]
    known = [i for i, row in enumerate(rewards) if not np.isnan(row).all()]
    if sigmas.size == len(found):
        sigmas = sigmas[known]  # of some methods' reports, what nobody could judge is a part
    asked = {_asked(entry) for entry in found}
    if len(known) < 2 or sigmas.size != len(known) or len(asked) != 1:
        raise UsageError(
            f"{where}: holds no population whose candidates all answered the same examples; "
            "bench run -m landscape makes one, and so do randopt and corp without racing"
        )
    found, rewards = [found[i] for i in known], [rewards[i] for i in known]
    base = [entry for entry in scored if entry["key"]["point"] == Point().digest and _asked(entry) in asked]
    table, correct = np.array(rewards), np.array([entry["value"]["correct"] for entry in found], dtype=np.bool_)
    right = np.array(base[0]["value"]["correct"], dtype=np.bool_) if base else None
    judged = ~np.isnan(table).any(axis=0)
    if base:
        judged &= ~np.isnan(_rewards(base[0]))
    if not judged.all():
        raise UsageError(f"{where}: {int((~judged).sum())} examples could not be judged for every candidate")
    noise: NoiseKind = result.config.method_config.get("noise", "iid")
    digests = [entry["key"]["point"] for entry in found]
    return Population(
        sigmas=sigmas,
        rewards=table,
        correct=correct,
        base=right,
        seeds=_seeds(result, digests, sigmas, noise, where),
        noise=noise,
        steps=tuple(_steps(scored, report.get("steps", []))),
    )


def _sampled(entry: Mapping[str, Any]) -> bool:
    key = entry.get("key", {})
    return (
        key.get("account") == "sample"
        and str(key.get("score", "")).startswith("support ")
        and bool(entry["value"]["complete"])
    )


def _asked(entry: Mapping[str, Any]) -> tuple[str, int]:
    """Which examples: the first, and how many."""
    return str(entry["key"]["score"]), len(entry["value"]["rewards"])


def _rewards(entry: Mapping[str, Any]) -> Floats:
    return np.array([np.nan if r is None else r for r in entry["value"]["rewards"]], dtype=np.float64)


def _steps(scored: list[Mapping[str, Any]], told: list[dict[str, Any]]) -> Iterable[Moved]:
    by_point = {(entry["key"]["point"], entry["key"]["score"]): entry for entry in scored}
    for step in told:
        start, stop = step["examples"]
        entry = by_point[step["point"], f"support {start}"]
        yield Moved(step["sigma"], range(start, stop), np.array(entry["value"]["correct"], dtype=np.bool_))


def _seeds(result: Result, digests: list[str], sigmas: Floats, noise: NoiseKind, where: str) -> tuple[int, ...] | None:
    """Find the seeds by what they make: a point's digest is that of its seed and scale, and of nothing else."""
    config = result.config
    drawn = [derive(config.seed, config.method, "population", index) for index in range(2 * len(digests))]
    scales = config.method_config.get("sigmas", [])
    made = {Point({seed: sigma}, noise).digest: (seed, sigma) for sigma in scales for seed in drawn}
    pairs = [made[digest] for digest in digests if digest in made]
    if len(pairs) < len(digests):
        return None
    # Scales stand in the record in the order of the journal, which nothing else would notice to be broken.
    if not np.allclose([sigma for _, sigma in pairs], sigmas, rtol=1e-9, atol=0):
        raise UsageError(f"{where}: the journal's candidates are not of the scales that the record has for them")
    return tuple(seed for seed, _ in pairs)
