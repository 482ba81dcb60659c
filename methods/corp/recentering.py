"""Stage 2 of CoRP as pure pieces: local candidates around a centre, their weights, and the next shape of the search."""

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
from bench.weights.noise import NoiseKind
from bench.weights.points import Point, combine
from methods.corp.consolidation import Consolidation

Floats = NDArray[np.float64]
LowRankEnergy = Literal["matched", "as_released"]


@dataclass(frozen=True)
class PrincipalDirections:
    """Principal directions of a weighted population.

    Attributes:
        directions: Unit displacements, by descending variance.
        variances: Their eigenvalues, positive.
    """

    directions: tuple[Point, ...]
    variances: tuple[float, ...]

    @classmethod
    def of(cls, consolidation: Consolidation, displacements: Sequence[Point]) -> PrincipalDirections:
        """Read the cloud off a consolidation of these displacements, given in full, not the elite alone."""
        elite = [displacements[i] for i in consolidation.elite]
        return cls.spanned(consolidation.eigenvalues, consolidation.principal, elite)

    @classmethod
    def spanned(cls, variances: Floats, principal: Floats, displacements: Sequence[Point]) -> PrincipalDirections:
        """Combine displacements into directions, given `weighted_cloud` of exactly these."""
        directions = tuple(combine(zip(row.tolist(), displacements, strict=True)) for row in principal)
        return cls(directions, tuple(variances[: len(directions)].tolist()))


def local_displacement(
    seed: int,
    cloud: PrincipalDirections,
    normals: Floats,
    *,
    sigma: float,
    isotropic: float,
    noise: NoiseKind = "iid",
    low_rank_energy: LowRankEnergy = "matched",
) -> Point:
    """Return sigma * (sqrt(lambda) eps + sqrt(1 - lambda) sum_j sqrt(ev_j / sum ev) z_j v_j).

    The low-rank part carries the share 1 - lambda of the energy. Released code leaves the eigenvalues unnormalised and
    scales by sigma twice, so that its low-rank share is about 2e-7 of the isotropic one; `as_released` does the same.

    Args:
        seed: Of the isotropic noise eps.
        cloud: Principal directions v_j and eigenvalues ev_j; without any, all energy is isotropic.
        normals: [directions], the z_j.
        sigma: Length of the displacement, on average over z.
        isotropic: lambda.
        noise: Kind of eps; the directions' own, if there are any.
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
    """Return (fixes - penalty * regressions) / examples; NaN without examples."""
    if before.size == 0:
        return math.nan
    return float((np.sum(~before & now) - penalty * np.sum(before & ~now)) / before.size)


def weights_for_ess(scores: Floats, target: float) -> Floats:
    """Return softmax(scores / T) at the temperature whose effective sample size 1 / sum w^2 is the target.

    Uniform weights, where even they fall short of the target, or where all scores are equal.

    Args:
        scores: [candidates], finite.
        target: Effective sample size wanted, at least 1.
    """
    spread = float(np.ptp(scores))
    if scores.size <= target or spread == 0.0:
        return np.full(scores.size, 1.0 / scores.size)
    scaled = (scores - scores.max()) / spread

    def excess(log_beta: float) -> float:
        weights = softmax(math.exp(log_beta) * scaled)
        return float(1.0 / np.square(weights).sum() - target)

    low, high = math.log(1e-6), math.log(1e6)
    # Ties at the top keep the effective sample size above a small target at any temperature.
    log_beta = high if excess(high) >= 0 else brentq(excess, low, high)
    weights: Floats = softmax(math.exp(log_beta) * scaled)
    return weights


def ess_target(round_index: int, rounds: int, start: float, end: float) -> float:
    """Return the effective sample size of a round, log-interpolated from start to end."""
    progress = round_index / (rounds - 1) if rounds > 1 else 0.0
    return float(start ** (1 - progress) * end**progress)


def next_isotropic(isotropic: float, share_positive: float) -> float:
    """Return the next lambda: less isotropic the more of the local candidates were constructive."""
    wanted = min(max(0.15 + 0.8 * (1.0 - share_positive), 0.15), 0.95)
    return min(max(0.5 * isotropic + 0.5 * wanted, 0.05), 0.95)


def cloud_of_positives(
    displacements: Sequence[Point], scores: Floats, gram: Floats, *, target: float, rank: int
) -> PrincipalDirections | None:
    """Return the cloud of the constructive candidates, weighted to an effective sample size.

    Args:
        displacements: [candidates].
        scores: [candidates], constructive scores.
        gram: [candidates, candidates], inner products of the displacements.
        target: Effective sample size.
        rank: Directions kept at most.

    Returns:
        None if fewer than two candidates are constructive, which span no cloud.
    """
    positive = np.flatnonzero(scores > 0)
    if positive.size < 2:
        return None
    values, principal = weighted_cloud(
        weights_for_ess(scores[positive], target), gram[np.ix_(positive, positive)], rank
    )
    chosen = [displacements[i] for i in positive.tolist()]
    return PrincipalDirections.spanned(values, principal, chosen)
