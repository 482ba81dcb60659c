"""Stage 1 of CoRP as pure geometry: from scored displacements to one direction and the cloud around it.

Everything happens in the Gram matrix G_ij = <delta_i, delta_j> of the displacements, so the same code serves a
population of single perturbations (G = diag(sigma^2), seeds being orthogonal) and one of structured displacements
around a recentred model. No weights, no files. Zhang, Yang & Kasneci, arXiv 2605.31494.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.weights.cloud import elite_weights, weighted_cloud

Floats = NDArray[np.float64]


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


def _check_rank(rank: int) -> None:
    if rank < 0:
        raise ValueError(f"rank is {rank}; a number that is not negative is needed")
