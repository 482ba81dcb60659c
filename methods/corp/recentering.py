"""Formulas of CoRP's stage 2: local candidates, their weights, and the next search distribution. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from bench.weights.cloud import weighted_cloud
from bench.weights.noise import PLAIN, Noise
from bench.weights.points import Point, combine
from methods.corp.consolidation import Consolidation

Floats = NDArray[np.float64]
LowRankEnergy = Literal["matched", "as_released"]
"""Energy of the low-rank part of a local candidate; see `local_displacement`."""


@dataclass(frozen=True)
class PrincipalDirections:
    """Principal directions of a weighted population.

    Attributes:
        directions: Displacements of norm 1, by descending variance.
        variances: Their eigenvalues, positive, in squared units of one noise direction.
    """

    directions: tuple[Point, ...]
    variances: tuple[float, ...]

    @classmethod
    def of(cls, consolidation: Consolidation, displacements: Sequence[Point]) -> PrincipalDirections:
        """Return the directions of a consolidation.

        Args:
            consolidation: Consolidation of a population.
            displacements: Displacements of the whole population, not of the elite alone.
        """
        elite = [displacements[i] for i in consolidation.elite]
        return cls.spanned(consolidation.eigenvalues, consolidation.principal, elite)

    @classmethod
    def spanned(cls, variances: Floats, principal: Floats, displacements: Sequence[Point]) -> PrincipalDirections:
        """Return the directions from the two results of `weighted_cloud` on these displacements."""
        directions = tuple(combine(zip(row.tolist(), displacements, strict=True)) for row in principal)
        return cls(directions, tuple(variances[: len(directions)].tolist()))


def local_displacement(
    seed: int,
    cloud: PrincipalDirections,
    normals: Floats,
    *,
    sigma: float,
    isotropic: float,
    noise: Noise = PLAIN,
    low_rank_energy: LowRankEnergy = "matched",
) -> Point:
    """Return sigma * (sqrt(lambda) eps + sqrt(1 - lambda) sum_j sqrt(ev_j / sum ev) z_j v_j).

    The low-rank part carries the share 1 - lambda of the energy. The released code uses sqrt(ev_j), which is already of
    order sigma, and multiplies by sigma again. Its low-rank energy is therefore about 2e-7 of the isotropic one;
    `as_released` reproduces this.

    Args:
        seed: Seed of the isotropic noise eps.
        cloud: Principal directions v_j and eigenvalues ev_j. If there are none, all energy is isotropic.
        normals: Standard normal draws z_j, [directions].
        sigma: Root mean square length of the displacement.
        isotropic: Share lambda of isotropic energy.
        noise: Distribution of the noise eps; must be that of the directions.
        low_rank_energy: `matched`, or `as_released` for sqrt(ev_j) in place of sqrt(ev_j / sum ev).
    """
    if not cloud.directions:
        return Point({seed: sigma}, noise=noise)
    variances = np.asarray(cloud.variances)
    energies = variances / variances.sum() if low_rank_energy == "matched" else variances
    structured = sigma * math.sqrt(1.0 - isotropic) * np.sqrt(energies) * normals
    terms = [(sigma * math.sqrt(isotropic), Point({seed: 1.0}, noise=noise))]
    return combine(terms + list(zip(structured.tolist(), cloud.directions, strict=True)))


def constructive(before: NDArray[np.bool_], now: NDArray[np.bool_], penalty: float) -> float:
    """Return (fixes - penalty * regressions) / examples; NaN without examples.

    Args:
        before: Whether the current model is correct, [examples].
        now: Whether the candidate is correct on the same examples, [examples].
        penalty: Cost of a regression, in units of a fix.
    """
    if before.size == 0:
        return math.nan
    return float((np.sum(~before & now) - penalty * np.sum(before & ~now)) / before.size)


def weights_for_ess(scores: Floats, target: float) -> Floats:
    """Return softmax(scores / T) at the temperature T where the effective sample size 1 / sum w^2 equals the target.

    The weights are uniform if all scores are equal, or if there are no more candidates than the target.

    Args:
        scores: Scores, finite, [candidates].
        target: Effective sample size; at least 1.
    """
    spread = float(np.ptp(scores))
    if scores.size <= target or spread == 0.0:
        return np.full(scores.size, 1.0 / scores.size)
    scaled = (scores - scores.max()) / spread

    def excess(log_beta: float) -> float:
        weights = softmax(math.exp(log_beta) * scaled)
        return float(1.0 / np.square(weights).sum() - target)

    low, high = math.log(1e-6), math.log(1e6)
    if excess(low) < 0:  # the target differs from the number of candidates by rounding only
        return np.full(scores.size, 1.0 / scores.size)
    # With ties at the top, no temperature reaches a target below the number of ties.
    log_beta = high if excess(high) >= 0 else brentq(excess, low, high)
    weights: Floats = softmax(math.exp(log_beta) * scaled)
    return weights


def ess_target(round_index: int, rounds: int, start: float, end: float) -> float:
    """Return the target effective sample size of a round (from 0), interpolated from start to end on a log scale."""
    progress = round_index / (rounds - 1) if rounds > 1 else 0.0
    return float(start ** (1 - progress) * end**progress)


def next_isotropic(isotropic: float, share_positive: float) -> float:
    """Return the next lambda. It falls as the share of local candidates with a positive score rises."""
    wanted = min(max(0.15 + 0.8 * (1.0 - share_positive), 0.15), 0.95)
    return min(max(0.5 * isotropic + 0.5 * wanted, 0.05), 0.95)


def cloud_of_positives(
    displacements: Sequence[Point], scores: Floats, gram: Floats, *, target: float, rank: int
) -> PrincipalDirections | None:
    """Return the principal directions of the candidates with positive scores, weighted to an effective sample size.

    Args:
        displacements: Displacements, [candidates].
        scores: Constructive scores, [candidates].
        gram: Inner products of the displacements, [candidates, candidates].
        target: Effective sample size.
        rank: Maximum number of directions.

    Returns:
        None if fewer than two candidates have positive scores.
    """
    positive = np.flatnonzero(scores > 0)
    if positive.size < 2:
        return None
    values, principal = weighted_cloud(
        weights_for_ess(scores[positive], target), gram[np.ix_(positive, positive)], rank
    )
    chosen = [displacements[i] for i in positive.tolist()]
    return PrincipalDirections.spanned(values, principal, chosen)
