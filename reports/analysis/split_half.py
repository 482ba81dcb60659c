"""Split halves of a scored population: do two clouds that share no example, or no candidate either, share structure.

Each half's cloud is made as in CoRP's consolidation (arXiv 2605.31494) from its candidates and its rewards. What two
clouds have in common is the mean squared cosine of the principal angles between their top directions, and the cosine of
their mean directions. Both come from inner products alone, so one function serves the amplitude basis, where candidates
are orthogonal, and a sketch of the weight vectors.

The null permutes the second half's rewards among its candidates of equal scale, against the first half as it is. If
rewards, given the scale, have nothing to do with what the first half found, every permutation is as likely as the
order observed, so the p-value is exact. Scales are kept apart since how far a candidate lies is no direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.stats import difference_over_seeds, mean_difference
from bench.weights.cloud import MIN_CANDIDATES, RewardCloud, halve, halve_examples, make_cloud
from reports.analysis.population import Population
from reports.analysis.results import SplitHalf, Statistic, Step, SubspaceOverlap

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BINS = 24


@dataclass(frozen=True)
class Half:
    """Candidates with their rewards on some examples.

    Attributes:
        rewards: [candidates], finite.
        sigmas: [candidates], scales; rewards are permuted among equals.
        gram: [candidates, candidates], inner products of the displacements.
    """

    rewards: Floats
    sigmas: Floats
    gram: Floats


def split_half(
    population: Population, vectors: Floats | None, *, rank: int, permutations: int = 1000, seed: int = 0
) -> SplitHalf:
    """Split a population's candidates and examples in halves and compare what the halves find.

    Args:
        population: Scored item by item.
        vectors: [candidates, dimensions], sketches of the candidates' noise directions; None if there are none.
        rank: Principal directions compared at most.
        permutations: Behind each null.
        seed: Of the permutations.

    Raises:
        ValueError: If a half has fewer than four candidates, or no example.
    """
    sigmas, notes = population.sigmas, []
    one, two = halve_examples(population.rewards.shape[1])
    if not len(one):
        raise ValueError(f"{len(two)} example: each half needs one")
    early, late = (population.rewards[:, part.start : part.stop].mean(axis=1) for part in (one, two))
    orthogonal = np.diag(np.square(sigmas))
    reproduced = compare_halves(
        Half(early, sigmas, orthogonal),
        Half(late, sigmas, orthogonal),
        orthogonal,
        rank=rank,
        permutations=permutations,
        seed=seed,
    )
    shared = None
    if vectors is not None:
        mine = halve(sigmas)
        first, second = (vectors[part] * sigmas[part, None] for part in (mine, ~mine))
        found = compare_halves(
            Half(early[mine], sigmas[mine], first @ first.T),
            Half(late[~mine], sigmas[~mine], second @ second.T),
            first @ second.T,
            rank=rank,
            permutations=permutations,
            seed=seed,
        )
        shared = replace(found, dimensions=vectors.shape[1])
    elif population.seeds is None:
        notes.append("other candidates were not compared: their seeds are not those that this version draws")
    steps = tuple(_steps(population))
    if not steps:
        notes.append("no steps along the halves' directions were measured: bench run -m landscape takes them")
    return SplitHalf((len(one), len(two)), permutations, reproduced, shared, steps, tuple(notes))


def _steps(population: Population) -> Iterator[Step]:
    """Of each length, the steps along both directions with the random ones that the other half's candidates are."""
    first = halve(population.sigmas)
    one, two = halve_examples(population.rewards.shape[1])
    for sigma in sorted({step.sigma for step in population.steps}):
        moved = {step.examples: step.correct for step in population.steps if step.sigma == sigma}
        near = np.isclose(population.sigmas, sigma, rtol=1e-9)
        if (
            population.base is None
            or moved.keys() != {one, two}
            or not ((first & near).any() and (~first & near).any())
        ):
            continue
        # The first half's direction is measured on the second half's examples, beside the second half's candidates.
        measured = tuple(
            Measured(
                population.base[part.start : part.stop],
                moved[part],
                population.correct[mine & near][:, part.start : part.stop],
            )
            for part, mine in ((two, ~first), (one, first))
        )
        yield transfer(sigma, *measured)


def compare_halves(
    first: Half, second: Half, cross: Floats, *, rank: int, permutations: int = 1000, seed: int = 0
) -> SubspaceOverlap:
    """Compare two halves' clouds, against the second half's rewards permuted.

    Args:
        first: One half.
        second: The other; of the same candidates on other examples, or of other candidates.
        cross: [first, second], inner products of the displacements of the two.
        rank: Principal directions compared at most.
        permutations: Behind the null.
        seed: Of the permutations.

    Raises:
        ValueError: If a half has fewer than four candidates, or `cross` is not of their shape.
    """
    if min(first.rewards.size, second.rewards.size) < MIN_CANDIDATES:
        raise ValueError(f"{first.rewards.size} and {second.rewards.size} candidates: each half needs {MIN_CANDIDATES}")
    if cross.shape != (first.rewards.size, second.rewards.size):
        raise ValueError(f"cross is {cross.shape}: inner products of all candidates of the two halves are needed")
    one, two = (make_cloud(half.rewards, half.gram, rank) for half in (first, second))
    observed = _overlap(one, two, cross)
    rng = np.random.default_rng(seed)
    null = np.array(
        [
            _overlap(one, make_cloud(second.rewards[order], second.gram, rank), cross)
            for order in _orders(second.sigmas, permutations, rng)
        ]
    ).reshape(-1, 2)
    return SubspaceOverlap(
        dimensions=None,
        candidates=(first.rewards.size, second.rewards.size),
        effective=(one.effective_sample_size, two.effective_sample_size),
        rank=min(one.principal.shape[0], two.principal.shape[0]),
        subspace=against_null(observed[0], null[:, 0]),
        mean=against_null(observed[1], null[:, 1]),
    )


def _overlap(one: RewardCloud, two: RewardCloud, cross: Floats) -> tuple[float, float]:
    """Mean squared cosine of the top directions, and cosine of the means."""
    products = cross[np.ix_(one.elite, two.elite)]
    between = one.principal @ products @ two.principal.T
    subspace = float(np.square(between).sum() / max(min(between.shape), 1))
    norms = one.norm * two.norm
    return subspace, float(one.weights @ products @ two.weights / norms) if norms > 0 else 0.0


def _orders(strata: Floats, count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Permutations within strata."""
    members = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(count):
        order = np.arange(strata.size)
        for found in members:
            order[found] = rng.permutation(found)
        yield order


def against_null(value: float, null: Floats) -> Statistic:
    """Place a value in its null, one-sided; values that rounding alone sets apart count as equal.

    Raises:
        ValueError: If the null is empty.
    """
    if not null.size:
        raise ValueError("no permutations: a null needs one at least")
    larger = int(np.count_nonzero(null >= value - 1e-12))
    low, high = float(null.min()), float(null.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # apart by rounding alone, and too close for bins
        high = low
    counts, _ = np.histogram(null, BINS, (low, high) if high > low else (low - 0.5, low + 0.5))
    return Statistic(
        value=value,
        null_mean=float(null.mean()),
        null_high=float(np.quantile(null, 0.95)),
        p_value=(1 + larger) / (1 + null.size),
        edges=(low, high),
        counts=tuple(counts.tolist()),
    )


@dataclass(frozen=True)
class Measured:
    """A step along one half's direction on the other half's examples.

    Attributes:
        base: [examples], whether the base is right.
        moved: [examples], whether the model after the step is.
        random: [directions, examples], the same after random steps of the same length, at least one.
    """

    base: Bools
    moved: Bools
    random: Bools


def transfer(sigma: float, first: Measured, second: Measured) -> Step:
    """Tell what steps of one length along both halves' directions do, each on examples that did not choose it.

    The p-value is exact if directions say nothing: then each step is one more of the random ones it was measured
    beside, and of all pairs of one from either half, the two steps in their places, this one is no better than any.

    Args:
        sigma: Length of the steps.
        first: Along one half's direction.
        second: Along the other's.
    """
    base, moved = np.concatenate([first.base, second.base]), np.concatenate([first.moved, second.moved])
    random = np.concatenate([first.random.mean(axis=0), second.random.mean(axis=0)])
    right = [np.append(half.random.sum(axis=1), half.moved.sum()) for half in (first, second)]
    pairs = np.add.outer(*right)
    return Step(
        sigma=sigma,
        examples=base.size,
        base=float(base.mean()),
        moved=float(moved.mean()),
        random=float(random.mean()),
        randoms=min(len(half.random) for half in (first, second)),
        gain=difference_over_seeds(base, moved[:, None]),
        excess=mean_difference(moved - random),
        p_value=float((pairs >= pairs[-1, -1]).mean()),
    )
