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
from scipy.linalg import eigh

from bench.analysis.population import Population
from bench.analysis.results import Overlap, SplitHalf, Statistic, Step
from bench.stats import difference_over_seeds, mean_difference
from methods.corp.consolidation import elite_weights

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

QUANTILE = 0.5
"""Elite threshold, of CoRP's grid the one that leaves most candidates."""
BINS = 24
FEWEST = 4
"""Candidates of a half below which its cloud is not worth comparing."""


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


def halve(sigmas: Floats) -> Bools:
    """Tell which candidates are the first half's: of each scale every other one, in sampling order."""
    first = np.zeros(sigmas.size, dtype=np.bool_)
    for sigma in np.unique(sigmas):
        first[np.flatnonzero(sigmas == sigma)[::2]] = True
    return first


def halve_examples(count: int) -> tuple[range, range]:
    """Return the examples of either half, each in one piece; the order of a split is random already."""
    return range(count // 2), range(count // 2, count)


@dataclass(frozen=True)
class Cloud:
    """The reward-weighted cloud of a half's elite.

    Attributes:
        elite: int64 [elite], indices of the candidates kept.
        weights: [elite], adding up to 1.
        norm: Length of the mean displacement.
        principal: [rank', elite], coefficients over the elite's displacements of the unit principal directions.
    """

    elite: NDArray[np.int64]
    weights: Floats
    norm: float
    principal: Floats

    @property
    def effective_sample_size(self) -> float:
        """1 / sum of squared weights."""
        return float(1.0 / np.square(self.weights).sum())


def make_cloud(rewards: Floats, gram: Floats, rank: int) -> Cloud:
    """Return the cloud of scored displacements.

    The weights are CoRP's of its first pass, softmax of beta times the reward, with beta the inverse of the rewards'
    standard deviation: at 100 examples that is about CoRP's 20, and at fewer it does not follow their noise. Its second
    pass, which favours what is aligned with the mean, is left out: where candidates are orthogonal the heaviest is the
    most aligned, and the pass leaves few of them.

    Args:
        rewards: [candidates], finite.
        gram: [candidates, candidates], inner products of the displacements.
        rank: Principal directions at most.
    """
    deviation = float(rewards.std())
    beta = 1 / deviation if deviation > 1e-9 else 0.0
    found = elite_weights(rewards, gram, q=QUANTILE, beta=beta, reweight=False)
    weights, products = found.pass1, gram[np.ix_(found.elite, found.elite)]
    roots, along = np.sqrt(weights), products @ weights
    square = float(weights @ along)
    centred = roots[:, None] * (products - along[:, None] - along[None, :] + square) * roots[None, :]
    count = weights.size
    values, vectors = eigh(centred, subset_by_index=(max(count - rank, 0), count - 1))
    kept = values > 1e-9 * np.trace(centred)
    # Row i of the cloud is sqrt(w_i) times the displacement from the mean, which takes w off every coefficient.
    rows = vectors[:, kept].T * roots
    principal = (rows - rows.sum(axis=1)[:, None] * weights) / np.sqrt(values[kept])[:, None]
    return Cloud(found.elite, weights, float(np.sqrt(max(square, 0.0))), principal)


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
) -> Overlap:
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
    if min(first.rewards.size, second.rewards.size) < FEWEST:
        raise ValueError(f"{first.rewards.size} and {second.rewards.size} candidates: each half needs {FEWEST}")
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
    return Overlap(
        dimensions=None,
        candidates=(first.rewards.size, second.rewards.size),
        effective=(one.effective_sample_size, two.effective_sample_size),
        rank=min(one.principal.shape[0], two.principal.shape[0]),
        subspace=against_null(observed[0], null[:, 0]),
        mean=against_null(observed[1], null[:, 1]),
    )


def _overlap(one: Cloud, two: Cloud, cross: Floats) -> tuple[float, float]:
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
