"""Early elimination of candidates that are unlikely to reach the top of a population. Pure functions.

Candidates are scored on growing slices of a split. The reward of candidate i on example j is modelled as
x_ij = a_i + b_j + e_ij: the candidate's effect, the example's effect (the same for all candidates), and noise. The
candidate effects have the prior a_i ~ N(0, tau^2), so a mean over few examples is shrunk towards the population's mean
(empirical Bayes). tau^2 and the slices' means maximise the likelihood of all rewards, including those of eliminated
candidates. Whether a reward is missing depends on observed rewards alone, so the likelihood stays valid. The noise
variance comes from the two-way residuals.

The predictive distribution of a full score is normal, for binary and for real-valued rewards. Unlike a beta-binomial
model, it accounts for shared difficulty: an example that all candidates solve does not distinguish them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FIRST_SLICE = 8
"""Minimum size of the first slice. A smaller one eliminates nothing, and each slice costs a write of the weights."""
NOISE_FLOOR = 1e-6
"""Lower bound on the variance of one reward. It keeps the equations well conditioned."""


def slice_ends(examples: int) -> list[int]:
    """Return the ends of the slices: at an eighth of the split, then growing by sqrt(2) each time, then all of it.

    For 200 examples: [25, 35, 50, 71, 100, 141, 200].
    """
    ends = {round(examples * 2 ** (-step / 2)) for step in range(1, 7)}
    return [*sorted(end for end in ends if FIRST_SLICE <= end < examples), examples]


@dataclass(frozen=True)
class Prediction:
    """Predicted full scores, relative to the examples' mean.

    Attributes:
        mean: Expected mean reward over the whole split, [candidates].
        deviation: Its standard deviation, [candidates]; 0 for a candidate that was scored on the whole split.
    """

    mean: Floats
    deviation: Floats


def survivors(
    rewards: Floats, scored: NDArray[np.int64], active: Bools, ends: list[int], *, top: int, confidence: float
) -> Bools:
    """Decide which candidates stay in the race.

    The candidates least likely to reach the top are eliminated, as long as their probabilities of reaching it add up to
    less than 1 - confidence of the total over all unfinished candidates. So at least the share `confidence` of those
    that would reach the top is expected to stay, even if the top is small. The `top` most likely candidates always
    stay, and so does any candidate that is as likely as one that stays.

    Args:
        rewards: Rewards in [0, 1], [candidates, examples]; NaN where a candidate was not scored.
        scored: Number of examples, from the first on, that each candidate was run on, [candidates]; the end of a slice
            or 0.
        active: Candidates that are not eliminated, [candidates]. Those that finished the split stay.
        ends: Ends of the slices.
        top: Size of the top; at least 1.
        confidence: Expected share of the true top that stays, in (0, 1]; at 1 no candidate is eliminated.

    Returns:
        The new `active`, [candidates].

    Raises:
        ValueError: If top or confidence is out of its range.
    """
    if top < 1 or not 0.0 < confidence <= 1.0:
        raise ValueError(f"top is {top} and confidence {confidence}; at least 1 and a number in (0, 1] are needed")
    if np.count_nonzero(active) <= top:
        return active.copy()
    prediction = predict(rewards, scored, ends)
    chances = chances_of_top(prediction.mean[active], prediction.deviation[active], top)
    unfinished = scored[active] < ends[-1]
    ascending = np.append(np.sort(chances[unfinished]), 1.0)
    eliminated = np.searchsorted(np.cumsum(ascending), (1.0 - confidence) * ascending[:-1].sum())
    # The tolerance keeps rounding from separating candidates with equal rewards.
    least = min(ascending[eliminated], np.partition(chances, -top)[-top]) - 1e-9
    stay = active.copy()
    stay[active] = ~unfinished | (chances >= least)
    return stay


def race(rewards: Floats, *, top: int, confidence: float) -> NDArray[np.int64]:
    """Simulate a race on a population whose rewards are all known.

    Args:
        rewards: Rewards in [0, 1], [candidates, examples].
        top: See `survivors`.
        confidence: See `survivors`.

    Returns:
        Number of examples that each candidate is scored on, [candidates]. The finalists are scored on all of them.
    """
    candidates, examples = rewards.shape
    scored, active = np.zeros(candidates, dtype=np.int64), np.ones(candidates, dtype=np.bool_)
    ends = slice_ends(examples)
    for end in ends:
        scored[active] = end
        if end < examples:
            active = survivors(rewards, scored, active, ends, top=top, confidence=confidence)
    return scored


def chances_of_top(mean: Floats, deviation: Floats, top: int) -> Floats:
    """Return each candidate's probability of reaching the top.

    The threshold t is the score that `top` candidates are expected to reach: it solves sum_i P(score_i >= t) = top for
    independent normal scores.

    Args:
        mean: Means of the scores, [candidates].
        deviation: Standard deviations of the scores, [candidates]; not negative.
        top: Size of the top; less than the number of candidates.
    """
    scale = np.maximum(deviation, 1e-9)

    def excess(threshold: float) -> float:
        return float(ndtr((mean - threshold) / scale).sum() - top)

    threshold = brentq(excess, float((mean - 40 * scale).min()), float((mean + 40 * scale).max()), xtol=1e-13)
    chances: Floats = ndtr((mean - threshold) / scale)
    return chances


def predict(rewards: Floats, scored: NDArray[np.int64], ends: list[int]) -> Prediction:
    """Predict the full scores from the rewards so far. See `survivors` for the arguments."""
    sums, counts, noise = _summarise(rewards, scored, ends)
    ratio, offsets = _fit(sums, counts, noise)
    observed = counts.sum(axis=1)
    excess = sums.sum(axis=1) - counts @ offsets
    shrink = ratio / (1.0 + ratio * observed)
    missing = ends[-1] - scored
    # Examples without a score are left out of both sums.
    total = np.maximum(observed + missing, 1.0)
    variance = noise * (np.square(missing) * shrink + missing)
    return Prediction((excess + missing * shrink * excess) / total, np.sqrt(variance) / total)


def _summarise(rewards: Floats, scored: NDArray[np.int64], ends: list[int]) -> tuple[Floats, Floats, float]:
    """Return the sums of rewards, the counts of scored examples, and the noise variance.

    Sums and counts have the shape [candidates, slices with scores].
    """
    sums, counts = [], []
    squares = freedom = 0.0
    for start, end in zip([0, *ends], ends, strict=False):
        block = np.where((scored >= end)[:, None], rewards[:, start:end], np.nan)
        known = ~np.isnan(block)
        if not known.any():
            continue
        filled = np.where(known, block, 0.0)
        rows, columns = known.sum(axis=1), known.sum(axis=0)
        # Two-way residuals; exact if the block has no missing scores.
        by_row = filled.sum(axis=1) / np.maximum(rows, 1)
        by_column = filled.sum(axis=0) / np.maximum(columns, 1)
        residuals = filled - by_row[:, None] - by_column + filled.sum() / known.sum()
        squares += float(np.square(residuals[known]).sum())
        freedom += max(0, int(np.count_nonzero(rows)) - 1) * max(0, int(np.count_nonzero(columns)) - 1)
        sums.append(filled.sum(axis=1))
        counts.append(rows.astype(np.float64))
    # Without a degree of freedom, use the largest variance that a reward in [0, 1] can have.
    noise = max(squares / freedom, NOISE_FLOOR) if freedom else 0.25
    if not sums:
        return np.zeros((rewards.shape[0], 1)), np.zeros((rewards.shape[0], 1)), noise
    return np.stack(sums, axis=1), np.stack(counts, axis=1), noise


def _fit(sums: Floats, counts: Floats, noise: float) -> tuple[float, Floats]:
    """Return the maximum-likelihood tau^2, in units of the noise variance, and the means of the slices."""
    observed, total = counts.sum(axis=1), sums.sum(axis=1)
    squares = float((np.square(sums) / np.maximum(counts, 1.0)).sum())

    def offsets(ratio: float) -> tuple[Floats, float]:
        """Return the generalised least-squares means for a ratio, and the residual sum of squares."""
        shrink = ratio / (1.0 + ratio * observed)
        normal = np.diag(counts.sum(axis=0)) - counts.T @ (shrink[:, None] * counts)
        right = sums.sum(axis=0) - counts.T @ (shrink * total)
        means = np.linalg.lstsq(normal, right, rcond=None)[0]
        return means, squares - float(shrink @ np.square(total)) - float(means @ right)

    def deviance(log_ratio: float) -> float:
        ratio = float(np.exp(log_ratio))
        return float(np.log1p(ratio * observed).sum()) + offsets(ratio)[1] / noise

    bounds = (np.log(1e-8), np.log(1.0 / NOISE_FLOOR))
    found = minimize_scalar(deviance, bounds=bounds, method="bounded", options={"xatol": 0.05})
    ratio = float(np.exp(found.x))
    return ratio, offsets(ratio)[0]
