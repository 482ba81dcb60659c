"""Reward-weighted clouds of scored displacements, and split halves of a population. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.special import softmax

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DEVIATION_FLOOR = 1e-12
ELITE_QUANTILE = 0.5
"""Elite threshold: the value of CoRP's grid that keeps the most candidates."""
MIN_CANDIDATES = 4
"""Smallest number of candidates per half for which clouds are compared."""


@dataclass(frozen=True)
class EliteWeights:
    """Weights of a population's elite. The fields are the first fields of `Consolidation`."""

    elite: NDArray[np.int64]
    pass1: Floats
    alignment: Floats
    dispersion: Floats
    pass2: Floats


def elite_weights(rewards: ArrayLike, gram: ArrayLike, *, q: float, beta: float, reweight: bool = True) -> EliteWeights:
    """Select the elite and compute its weights: the first part of `consolidate_gram`, with the same arguments.

    Raises:
        ValueError: If an argument is out of range or the lengths differ.
    """
    r, full = np.asarray(rewards, dtype=np.float64), np.asarray(gram, dtype=np.float64)
    _check(r, full, q=q, beta=beta)
    known = np.isfinite(r)
    threshold = np.quantile(np.where(known, r, r[known].min()), q)
    elite = np.flatnonzero(known & (r >= threshold))
    if elite.size == 0:
        elite = np.array([np.argmax(r)])
    r, g = r[elite], full[np.ix_(elite, elite)]

    pass1 = softmax(beta * r)
    along = g @ pass1  # <delta_i, m>
    mean_square = float(pass1 @ along)
    squares = np.diag(g)
    # If the displacements cancel, there is no mean to align with: alignment is 0 and everything is dispersion.
    inverse = 1.0 / mean_square if mean_square > 0 else 0.0
    alignment = along * np.sqrt(inverse / squares)
    dispersion = squares - np.square(along) * inverse
    compatibility = _standardise(alignment) - _standardise(dispersion)
    pass2 = softmax(beta * r + compatibility) if reweight else pass1
    return EliteWeights(elite, pass1, alignment, dispersion, pass2)


def weighted_cloud(weights: Floats, gram: Floats, rank: int) -> tuple[Floats, Floats]:
    """Return variances and principal directions of displacements around their weighted mean.

    Args:
        weights: Weights of the candidates, shape [candidates], with sum 1.
        gram: Inner products of the displacements, shape [candidates, candidates].
        rank: Maximum number of principal directions.

    Returns:
        All eigenvalues of the weighted, centred cloud, in descending order. Then the unit principal directions as
        coefficients over the displacements, shape [rank', candidates]; directions without variance are left out.
    """
    # Row i holds sqrt(w_i) times the coefficients of delta_i - mean.
    rows = np.sqrt(weights)[:, None] * (np.eye(weights.size) - weights[None, :])
    # Use singular values of the cloud itself: the eigenvalues of its square would lose small directions to rounding.
    values, axes = np.linalg.eigh(gram)
    vectors, singular, _ = np.linalg.svd(rows @ (axes * np.sqrt(np.clip(values, 0.0, None))))
    eigenvalues = np.square(singular)
    # Because of rounding, the null direction of a centred cloud has a variance of about 1e-16 of the trace.
    kept = min(rank, int(np.count_nonzero(eigenvalues > 1e-12 * eigenvalues.sum())))
    return eigenvalues, (vectors[:, :kept].T @ rows) / singular[:kept, None]


@dataclass(frozen=True)
class RewardCloud:
    """Reward-weighted cloud of the elite of one half.

    Attributes:
        elite: Indices of the elite candidates, int64 [elite].
        weights: Weights of the elite, shape [elite], with sum 1.
        norm: Length of the mean displacement.
        principal: Unit principal directions as coefficients over the elite's displacements, shape [rank', elite].
    """

    elite: NDArray[np.int64]
    weights: Floats
    norm: float
    principal: Floats

    @property
    def effective_sample_size(self) -> float:
        """Effective sample size: 1 / sum of squared weights."""
        return float(1.0 / np.square(self.weights).sum())


def make_cloud(rewards: Floats, gram: Floats, rank: int) -> RewardCloud:
    """Return the reward-weighted cloud of scored displacements.

    The weights are those of CoRP's first pass: softmax(beta * reward). Here beta is 1 / standard deviation of the
    rewards. With 100 examples this is close to CoRP's 20; with fewer examples a smaller beta follows their noise less.
    CoRP's second pass, which favours displacements aligned with the mean, is left out. If the candidates are
    orthogonal, the one with the largest weight is also the most aligned, and the second pass would keep only a few.

    Args:
        rewards: Finite rewards, shape [candidates].
        gram: Inner products of the displacements, shape [candidates, candidates].
        rank: Maximum number of principal directions.
    """
    deviation = float(rewards.std())
    beta = 1 / deviation if deviation > 1e-9 else 0.0
    found = elite_weights(rewards, gram, q=ELITE_QUANTILE, beta=beta, reweight=False)
    weights, products = found.pass1, gram[np.ix_(found.elite, found.elite)]
    roots, along = np.sqrt(weights), products @ weights
    square = float(weights @ along)
    centred = roots[:, None] * (products - along[:, None] - along[None, :] + square) * roots[None, :]
    count = weights.size
    values, vectors = eigh(centred, subset_by_index=(max(count - rank, 0), count - 1))
    kept = values > 1e-9 * np.trace(centred)
    # Row i of the cloud is sqrt(w_i) * (delta_i - mean), and the mean has the coefficients w.
    rows = vectors[:, kept].T * roots
    principal = (rows - rows.sum(axis=1)[:, None] * weights) / np.sqrt(values[kept])[:, None]
    return RewardCloud(found.elite, weights, float(np.sqrt(max(square, 0.0))), principal)


def halve(sigmas: Floats) -> Bools:
    """Return a mask of the first half: every other candidate of each scale, in sampling order."""
    first = np.zeros(sigmas.size, dtype=np.bool_)
    for sigma in np.unique(sigmas):
        first[np.flatnonzero(sigmas == sigma)[::2]] = True
    return first


def halve_examples(count: int) -> tuple[range, range]:
    """Return the examples of each half as contiguous ranges; the order of a split is already random."""
    return range(count // 2), range(count // 2, count)


def _standardise(values: Floats) -> Floats:
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > DEVIATION_FLOOR else np.zeros_like(values)


def _check(rewards: Floats, gram: Floats, *, q: float, beta: float) -> None:
    if rewards.ndim != 1 or not np.any(np.isfinite(rewards)) or not np.all(rewards < np.inf):
        raise ValueError("rewards must be a one-dimensional array of numbers below infinity, one of them finite")
    if gram.shape != (rewards.size, rewards.size):
        raise ValueError(f"{rewards.size} rewards need as many displacements; the Gram matrix is {gram.shape}")
    if not np.all(np.diag(gram) > 0):
        raise ValueError("every displacement must have a positive length")
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q is {q}; a quantile in [0, 1] is needed")
    if not (np.isfinite(beta) and beta >= 0):
        raise ValueError(f"beta is {beta}; a finite number that is not negative is needed")
