"""Density of good perturbations: the fraction that beats the base, compared with what noise alone would give.

A score on n examples is noisy. Suppose that a perturbation changes d answers and that each change is a fix or a
regression with equal probability. It then beats the base by t with probability P(2 Bin(d, 1/2) - d >= t n), which is
far from 0 if n is small. This is the null hypothesis.

The null is simulated with one random sign per example, shared by all perturbations, because perturbations that change
the same answers gain and lose together. The mean of the simulation agrees with the formula, and its spread includes
this correlation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom, spearmanr

from bench.stats import Estimate, wilson_interval
from bench.weights.cloud import halve_examples
from reports.analysis.results import Share, Specialisation

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

THRESHOLDS = (0.0, 0.01, 0.02, 0.05)


def shares(
    correct: Bools,
    base: Bools,
    sigmas: Floats,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Share, ...]:
    """Return the fraction of perturbations that beat the base, for each scale and threshold.

    Args:
        correct: Whether each candidate's answer is correct, shape [candidates, examples].
        base: Whether the base's answer is correct, shape [examples].
        sigmas: Scale of each candidate, shape [candidates].
        thresholds: Minimum gains in accuracy, each in [0, 1].
        draws: Number of draws from the null.
        seed: Seed of these draws.
    """
    change = correct.astype(np.int8) - base.astype(np.int8)
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.int8), (draws, base.size))
    found = []
    for sigma in np.unique(sigmas):
        mine = change[sigmas == sigma].astype(np.float32)
        net, null = mine.sum(axis=1), mine @ signs.T.astype(np.float32)
        for threshold in thresholds:
            enough = threshold * base.size - 1e-6
            count = int(np.count_nonzero(net >= enough))
            drawn = (null >= enough).mean(axis=0)
            share = count / net.size
            found.append(
                Share(
                    sigma=float(sigma),
                    threshold=threshold,
                    candidates=net.size,
                    share=Estimate(share, *wilson_interval(count, net.size)),
                    null=noise_share(np.abs(mine).sum(axis=1), base.size, threshold),
                    null_high=float(np.quantile(drawn, 0.95)),
                    p_value=(1 + int(np.count_nonzero(drawn >= share - 1e-9))) / (1 + draws),
                    elsewhere=_elsewhere(mine, threshold),
                )
            )
    return tuple(found)


def noise_share(changed: NDArray[np.float32], examples: int, threshold: float) -> float:
    """Return the expected fraction of perturbations that reach a gain if each changed answer is a coin flip.

    Args:
        changed: Number of answers that each candidate changes, shape [candidates].
        examples: Number of examples that each was scored on.
        threshold: Minimum gain in accuracy, in [0, 1].
    """
    # fixes - regressions = 2 fixes - changed >= threshold * examples.
    least = np.ceil((changed + threshold * examples) / 2 - 1e-6)
    return float(binom.sf(least - 1, changed, 0.5).mean())


def _elsewhere(change: NDArray[np.float32], threshold: float) -> float | None:
    """Return the mean gain on one half of the examples, of the candidates that reach the threshold on the other half.

    Both halves take either role. Return None if no candidate reaches the threshold.
    """
    one, two = _halves(change)
    kept = np.concatenate([two[one >= threshold - 1e-9], one[two >= threshold - 1e-9]])
    return float(kept.mean()) if kept.size else None


def specialisation(other: str, first: Floats, second: Floats, sigmas: Floats) -> tuple[Specialisation, ...]:
    """Correlate the gains of the same perturbations on two tasks, separately for each scale.

    Large perturbations harm every task. Over several scales this alone would make gains correlate.

    Args:
        other: Name of the second task and run.
        first: Change in correctness against the base on the first task, shape [candidates, examples].
        second: The same on the second task, shape [candidates, examples of the second task].
        sigmas: Scale of each candidate, shape [candidates].
    """
    found = []
    for sigma in np.unique(sigmas):
        one, two = first[sigmas == sigma], second[sigmas == sigma]
        if len(one) > 3:
            correlation = rank_correlation(one.mean(axis=1), two.mean(axis=1))
            found.append(
                Specialisation(other, float(sigma), len(one), correlation, (_reliability(one), _reliability(two)))
            )
    return tuple(found)


def rank_correlation(first: Floats, second: Floats) -> Estimate:
    """Return Spearman's rank correlation with its 95 % interval (Bonett & Wright 2000, Psychometrika 65:23).

    Args:
        first: Values, shape [candidates], for more than three candidates.
        second: Values of the same candidates, shape [candidates].
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return Estimate(0.0, -1.0, 1.0)  # the correlation with a constant is undefined
    value = float(spearmanr(first, second).statistic)
    half = float(ndtri(0.975)) * math.sqrt((1 + value**2 / 2) / (first.size - 3))
    middle = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return Estimate(value, math.tanh(middle - half), math.tanh(middle + half))


def _halves(change: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean change on each half of the examples, two arrays of shape [candidates]."""
    one, two = halve_examples(change.shape[1])
    return change[:, one.start : one.stop].mean(axis=1), change[:, two.start : two.stop].mean(axis=1)


def _reliability(change: Floats) -> float:
    """Return the Spearman-Brown reliability from the two halves of the examples, at least 0."""
    one, two = _halves(change)
    value = max(rank_correlation(one, two).value, 0.0)
    return 2 * value / (1 + value)
