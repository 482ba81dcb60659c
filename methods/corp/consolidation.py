"""Stage 1 of CoRP as pure geometry: from scored displacements to one direction and the cloud around it.

Everything happens in the Gram matrix G_ij = <delta_i, delta_j> of the displacements, so the same code serves a
population of single perturbations (G = diag(sigma^2), seeds being orthogonal) and one of structured displacements
around a recentred model. No weights, no files. Zhang, Yang & Kasneci, arXiv 2605.31494.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

Floats = NDArray[np.float64]
DEVIATION_FLOOR = 1e-12


@dataclass(frozen=True)
class Consolidation:
    """A consolidated population. Arrays over the elite are in ascending order of the candidates' indices.

    Attributes:
        elite: int64 [elite], indices of the candidates kept.
        pass1: [elite], weights softmax(beta * reward).
        alignment: [elite], cosine of each displacement with the pass-1 mean.
        dispersion: [elite], squared length of each displacement off the line of the pass-1 mean.
        pass2: [elite], weights softmax(beta * reward + z(alignment) - z(dispersion)); those of pass 1 without
            re-weighting.
        norm: Length of the pass-2 mean displacement, the paper's rss.
        eigenvalues: [elite], of the pass-2 weighted, centred cloud, descending; they add up to `trace`.
        trace: Total variance of that cloud.
        kappa: norm^2 / trace, signal against spread; infinite where the cloud is a single point.
        effective_rank: exp of the entropy of the eigenvalues' shares; 0 where the cloud is a single point.
        principal: [rank', elite], coefficients over the elite's displacements of the cloud's unit principal
            directions, rank' <= rank; directions without variance are left out.
    """

    elite: NDArray[np.int64]
    pass1: Floats
    alignment: Floats
    dispersion: Floats
    pass2: Floats
    norm: float
    eigenvalues: Floats
    trace: float
    kappa: float
    effective_rank: float
    principal: Floats

    @property
    def effective_sample_size(self) -> float:
        """1 / sum of squared pass-2 weights: how many candidates the mean really averages."""
        return float(1.0 / np.square(self.pass2).sum())


def consolidate(
    rewards: ArrayLike, sigmas: ArrayLike, *, q: float, beta: float, rank: int = 8, reweight: bool = True
) -> Consolidation:
    """Consolidate a population of single perturbations sigma_i * eps_i with mutually orthogonal eps_i.

    Args:
        rewards: [candidates], finite, or minus infinity for a candidate known to be outside the elite: it counts
            towards the quantile and weighs nothing.
        sigmas: [candidates], positive: the lengths of the displacements in units of one noise direction.
        q: Quantile of the rewards, linearly interpolated, from which on a candidate is elite; in [0, 1].
        beta: Inverse temperature of the weights; not negative.
        rank: Principal directions to return at most.
        reweight: Whether pass 2 takes place.

    Raises:
        ValueError: If an argument is out of its range or the lengths differ.
    """
    lengths = np.asarray(sigmas, dtype=np.float64)
    if lengths.ndim != 1 or not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise ValueError("sigmas must be a one-dimensional array of finite, positive numbers")
    return consolidate_gram(rewards, np.diag(np.square(lengths)), q=q, beta=beta, rank=rank, reweight=reweight)


def consolidate_gram(
    rewards: ArrayLike, gram: ArrayLike, *, q: float, beta: float, rank: int = 8, reweight: bool = True
) -> Consolidation:
    """Consolidate displacements given by their Gram matrix; see `consolidate` for the other arguments.

    Args:
        rewards: See `consolidate`.
        gram: [candidates, candidates], inner products of the displacements, none of length zero.
        q: See `consolidate`.
        beta: See `consolidate`.
        rank: See `consolidate`.
        reweight: See `consolidate`.

    Raises:
        ValueError: If an argument is out of its range or the lengths differ.
    """
    weights = elite_weights(rewards, gram, q=q, beta=beta, reweight=reweight)
    _check_rank(rank)
    elite, pass2 = weights.elite, weights.pass2
    g = np.asarray(gram, dtype=np.float64)[np.ix_(elite, elite)]
    norm = float(np.sqrt(pass2 @ g @ pass2))
    eigenvalues, principal = weighted_cloud(pass2, g, rank)
    trace = float(eigenvalues.sum())
    shares = eigenvalues[eigenvalues > 0] / trace if trace > 0 else np.empty(0)
    return Consolidation(
        elite=elite,
        pass1=weights.pass1,
        alignment=weights.alignment,
        dispersion=weights.dispersion,
        pass2=pass2,
        norm=norm,
        eigenvalues=eigenvalues,
        trace=trace,
        kappa=norm**2 / trace if trace > 0 else float("inf"),
        effective_rank=float(np.exp(-np.sum(shares * np.log(shares)))) if shares.size else 0.0,
        principal=principal,
    )


@dataclass(frozen=True)
class Weights:
    """What a population's elite weighs: the first fields of `Consolidation`."""

    elite: NDArray[np.int64]
    pass1: Floats
    alignment: Floats
    dispersion: Floats
    pass2: Floats


def elite_weights(rewards: ArrayLike, gram: ArrayLike, *, q: float, beta: float, reweight: bool = True) -> Weights:
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
    return Weights(elite, pass1, alignment, dispersion, pass2)


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


def _check_rank(rank: int) -> None:
    if rank < 0:
        raise ValueError(f"rank is {rank}; a number that is not negative is needed")
