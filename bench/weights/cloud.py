"""Reward-weighted clouds of scored displacements, and the halves that a population is split into. Pure."""

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
"""Elite threshold, of CoRP's grid the one that leaves most candidates."""
MIN_CANDIDATES = 4
"""Candidates of a half below which its cloud is not worth comparing."""


@dataclass(frozen=True)
class EliteWeights:
    """What a population's elite weighs: the first fields of `Consolidation`."""

    elite: NDArray[np.int64]
    pass1: Floats
    alignment: Floats
    dispersion: Floats
    pass2: Floats


def elite_weights(rewards: ArrayLike, gram: ArrayLike, *, q: float, beta: float, reweight: bool = True) -> EliteWeights:
    """Choose and weigh the elite, the first part of `consolidate_gram`, whose arguments these are.

    Raises:
        ValueError: If an argument is out of its range or the lengths differ.
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
    # Displacements that cancel have no mean to be aligned with; everything they hold is dispersion.
    inverse = 1.0 / mean_square if mean_square > 0 else 0.0
    alignment = along * np.sqrt(inverse / squares)
    dispersion = squares - np.square(along) * inverse
    compatibility = _standardise(alignment) - _standardise(dispersion)
    pass2 = softmax(beta * r + compatibility) if reweight else pass1
    return EliteWeights(elite, pass1, alignment, dispersion, pass2)


def weighted_cloud(weights: Floats, gram: Floats, rank: int) -> tuple[Floats, Floats]:
    """Return variances and principal directions of displacements around their weighted mean.

    Args:
        weights: [candidates], adding up to 1.
        gram: [candidates, candidates], inner products of the displacements.
        rank: Principal directions to return at most.

    Returns:
        All eigenvalues of the weighted, centred cloud, descending; and [rank', candidates], the coefficients over the
        displacements of its unit principal directions, those without variance left out.
    """
    # Row i holds sqrt(w_i) times the coefficients of delta_i - mean.
    rows = np.sqrt(weights)[:, None] * (np.eye(weights.size) - weights[None, :])
    # By singular values of the cloud itself: squaring it first would lose the small directions to rounding.
    values, axes = np.linalg.eigh(gram)
    vectors, singular, _ = np.linalg.svd(rows @ (axes * np.sqrt(np.clip(values, 0.0, None))))
    eigenvalues = np.square(singular)
    # Rounding leaves the null direction of a centred cloud with variance of the order of 1e-16 of the trace.
    kept = min(rank, int(np.count_nonzero(eigenvalues > 1e-12 * eigenvalues.sum())))
    return eigenvalues, (vectors[:, :kept].T @ rows) / singular[:kept, None]


@dataclass(frozen=True)
class RewardCloud:
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


def make_cloud(rewards: Floats, gram: Floats, rank: int) -> RewardCloud:
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
    found = elite_weights(rewards, gram, q=ELITE_QUANTILE, beta=beta, reweight=False)
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
    return RewardCloud(found.elite, weights, float(np.sqrt(max(square, 0.0))), principal)


def halve(sigmas: Floats) -> Bools:
    """Tell which candidates are the first half's: of each scale every other one, in sampling order."""
    first = np.zeros(sigmas.size, dtype=np.bool_)
    for sigma in np.unique(sigmas):
        first[np.flatnonzero(sigmas == sigma)[::2]] = True
    return first


def halve_examples(count: int) -> tuple[range, range]:
    """Return the examples of either half, each in one piece; the order of a split is random already."""
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
