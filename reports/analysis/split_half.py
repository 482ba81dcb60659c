"""Split-half comparison of a scored population: do disjoint examples, and disjoint candidates, show the same structure?

Each half gives a reward-weighted cloud of candidates, made as in CoRP's consolidation (arXiv 2605.31494). Two measures
compare the clouds: the mean squared cosine of the principal angles between their top directions, and the cosine of
their mean directions. Both need only inner products. So one function serves the amplitude basis, where candidates are
orthogonal, and sketches of the weight vectors.

The null permutes the second half's rewards among candidates of equal scale and leaves the first half unchanged. If
rewards, given the scale, are independent of the first half, all permutations are equally likely, so the p-value is
exact. Permuting within scales removes the effect of a candidate's distance from the base, which is not a direction.
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
    """Candidates with their rewards on one half of the examples.

    Attributes:
        rewards: Mean reward of each candidate, finite, shape [candidates].
        sigmas: Scale of each candidate, shape [candidates]; rewards are permuted among equal scales.
        gram: Inner products of the candidates' displacements, shape [candidates, candidates].
    """

    rewards: Floats
    sigmas: Floats
    gram: Floats


def split_half(
    population: Population, vectors: Floats | None, *, rank: int, permutations: int = 1000, seed: int = 0
) -> SplitHalf:
    """Split candidates and examples into halves and compare the halves.

    Args:
        population: Population scored example by example.
        vectors: Sketches of the candidates' noise directions, shape [candidates, dimensions]; None if not available.
        rank: Maximum number of principal directions to compare.
        permutations: Number of permutations behind each null.
        seed: Seed of the permutations.

    Raises:
        ValueError: If a half has fewer than four candidates or no example.
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
        notes.append("other candidates were not compared: this version draws other seeds than the run did")
    steps = tuple(_steps(population))
    if not steps:
        notes.append("the run measured no steps along the halves' directions; bench run -m landscape does")
    return SplitHalf((len(one), len(two)), permutations, reproduced, shared, steps, tuple(notes))


def _steps(population: Population) -> Iterator[Step]:
    """Yield, for each length, the steps along both directions. The other half's candidates serve as random steps."""
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
        # The first half's direction is measured on the second half's examples and compared with its candidates.
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
    """Compare two halves' clouds, with a null from permuting the second half's rewards.

    Args:
        first: One half.
        second: The other half: the same candidates on other examples, or other candidates.
        cross: Inner products between the displacements of the two, shape [first candidates, second candidates].
        rank: Maximum number of principal directions to compare.
        permutations: Number of permutations behind the null.
        seed: Seed of the permutations.

    Raises:
        ValueError: If a half has fewer than four candidates, or `cross` has another shape.
    """
    if min(first.rewards.size, second.rewards.size) < MIN_CANDIDATES:
        raise ValueError(f"{first.rewards.size} and {second.rewards.size} candidates: each half needs {MIN_CANDIDATES}")
    if cross.shape != (first.rewards.size, second.rewards.size):
        raise ValueError(
            f"cross has shape {cross.shape}: the halves need shape {(first.rewards.size, second.rewards.size)}"
        )
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
    """Return the mean squared cosine of the top directions and the cosine of the mean directions."""
    products = cross[np.ix_(one.elite, two.elite)]
    between = one.principal @ products @ two.principal.T
    subspace = float(np.square(between).sum() / max(min(between.shape), 1))
    norms = one.norm * two.norm
    return subspace, float(one.weights @ products @ two.weights / norms) if norms > 0 else 0.0


def _orders(strata: Floats, count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield random permutations that only exchange elements of the same stratum."""
    members = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(count):
        order = np.arange(strata.size)
        for indices in members:
            order[indices] = rng.permutation(indices)
        yield order


def against_null(value: float, null: Floats) -> Statistic:
    """Compare a value with its null, one-sided. Values that differ only by rounding errors count as equal.

    Raises:
        ValueError: If the null is empty.
    """
    if not null.size:
        raise ValueError("0 permutations: the null needs at least 1")
    larger = int(np.count_nonzero(null >= value - 1e-12))
    low, high = float(null.min()), float(null.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # they differ by rounding errors and are too close for bins
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
    """Step along one half's direction, measured on the other half's examples.

    Attributes:
        base: Whether the base's answers are correct, shape [examples].
        moved: Whether the answers after the step are correct, shape [examples].
        random: The same after random steps of this length, shape [directions, examples], at least one direction.
    """

    base: Bools
    moved: Bools
    random: Bools


def transfer(sigma: float, first: Measured, second: Measured) -> Step:
    """Return the effect of steps of one length, each measured on examples that did not choose its direction.

    The p-value is exact. Under the null hypothesis each step is one more random step of its half. It is then as likely
    as any other pair (one step from each half) to have the largest total of correct answers.

    Args:
        sigma: Length of the steps.
        first: Step along one half's direction.
        second: Step along the other half's direction.
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
