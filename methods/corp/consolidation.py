"""Consolidation, stage 1 of CoRP (arXiv 2605.31494): from scored displacements to a direction. Pure functions.

All computations use the Gram matrix G_ij = <delta_i, delta_j> of the displacements. So the same code serves single
perturbations, where G = diag(sigma^2) because seeds are orthogonal, and structured displacements around a recentred
model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.weights.cloud import elite_weights, weighted_cloud

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Consolidation:
    """A consolidated population.

    Arrays over the elite are in ascending order of the candidates' indices.

    Attributes:
        elite: Indices of the elite candidates, int64 [elite].
        pass1: Weights softmax(beta * reward), [elite].
        alignment: Cosine of each displacement with the pass-1 mean, [elite].
        dispersion: Squared distance of each displacement from the line of the pass-1 mean, [elite].
        pass2: Weights softmax(beta * reward + z(alignment) - z(dispersion)), where z is the standard score, [elite].
            Equal to `pass1` without re-weighting.
        norm: Norm of the pass-2 mean displacement, the paper's rss.
        eigenvalues: Eigenvalues of the centred cloud with pass-2 weights, descending, [elite].
        trace: Sum of the eigenvalues, the total variance of that cloud.
        kappa: norm^2 / trace, a signal-to-noise ratio; infinite if the cloud is a single point.
        effective_rank: exp of the entropy of the eigenvalue shares; 0 if the cloud is a single point.
        principal: Coefficients of the principal directions (of norm 1) over the elite's displacements, [rank', elite]
            with rank' <= rank. Directions without variance are left out.
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
        """1 / sum of squared pass-2 weights: the number of candidates that the mean effectively averages."""
        return float(1.0 / np.square(self.pass2).sum())


def consolidate(
    rewards: ArrayLike, sigmas: ArrayLike, *, q: float, beta: float, rank: int = 8, reweight: bool = True
) -> Consolidation:
    """Consolidate a population of single perturbations sigma_i * eps_i with mutually orthogonal eps_i.

    Args:
        rewards: Mean rewards, [candidates]. Minus infinity marks a candidate known to be outside the elite: it counts
            for the quantile, and its weight is zero.
        sigmas: Norms of the displacements, positive, in units of one noise direction, [candidates].
        q: Elite threshold, a quantile of the rewards in [0, 1] with linear interpolation.
        beta: Inverse temperature of the weights; not negative.
        rank: Maximum number of principal directions.
        reweight: Whether to run pass 2.

    Raises:
        ValueError: If an argument is out of range or the lengths differ.
    """
    lengths = np.asarray(sigmas, dtype=np.float64)
    if lengths.ndim != 1 or not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise ValueError("sigmas must be a one-dimensional array of finite, positive numbers")
    return consolidate_gram(rewards, np.diag(np.square(lengths)), q=q, beta=beta, rank=rank, reweight=reweight)


def consolidate_gram(
    rewards: ArrayLike, gram: ArrayLike, *, q: float, beta: float, rank: int = 8, reweight: bool = True
) -> Consolidation:
    """Consolidate displacements given by their Gram matrix. See `consolidate` for the other arguments.

    Args:
        rewards: See `consolidate`.
        gram: Inner products of the displacements, none of norm zero, [candidates, candidates].
        q: See `consolidate`.
        beta: See `consolidate`.
        rank: See `consolidate`.
        reweight: See `consolidate`.

    Raises:
        ValueError: If an argument is out of range or the lengths differ.
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


def _check_rank(rank: int) -> None:
    if rank < 0:
        raise ValueError(f"rank is {rank}; a number that is not negative is needed")
