"""Racing: which candidates of a population need no further scoring, since they can hardly reach the top any more. Pure.

Candidates answer a split in growing slices. A reward is modelled as x_ij = a_i + b_j + e_ij: what the candidate adds,
what the example gives everybody, and noise. Between candidates a_i ~ N(0, tau^2), so that a rate read off a few
examples is shrunk towards the others' as far as chance explains its distance (empirical Bayes). tau^2 and the slices'
means are those of greatest likelihood over all answers, also those of candidates that have dropped out: whether an
answer is missing depends on answers seen alone, so the likelihood holds. Noise is what rows and columns leave over.

The predictive distribution of a full score is normal. It serves binary rewards and real ones alike, and unlike a
beta-binomial it credits what candidates share: an example that is easy for all tells nothing about any of them.
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
"""Examples of the first slice at least: fewer decide nothing and cost a move of the weights each."""
NOISE_FLOOR = 1e-6
"""Variance of one reward below which rewards count as noiseless; keeps the equations well conditioned."""


def slice_ends(examples: int) -> list[int]:
    """Return where the slices of a split end: an eighth of it, then half an octave more each time, then all of it."""
    ends = {round(examples * 2 ** (-step / 2)) for step in range(1, 7)}
    return [*sorted(end for end in ends if FIRST_SLICE <= end < examples), examples]


@dataclass(frozen=True)
class Prediction:
    """Full scores as far as they can be foreseen, less what the examples give everybody.

    Attributes:
        mean: [candidates], expected mean reward over the whole split.
        deviation: [candidates], standard deviation of that; 0 for a candidate that has answered everything.
    """

    mean: Floats
    deviation: Floats


def stay(
    rewards: Floats, asked: NDArray[np.int64], racing: Bools, ends: list[int], *, top: int, confidence: float
) -> Bools:
    """Decide who stays in the race.

    The least probable drop out, as long as their chances of reaching the top add up to less than 1 - confidence of what
    all chances of the undecided add up to. So of those who would reach it at least the share `confidence` is expected
    to stay, however small the top is beside the population. The `top` most probable stay in any case, and whoever is as
    probable as one who stays.

    Args:
        rewards: [candidates, examples], in [0, 1]; NaN where not asked, and where the judge could not judge.
        asked: [candidates], how many examples, from the first on, each has been asked; a slice's end or 0.
        racing: [candidates], who has not dropped out; those among them that have been asked everything stay.
        ends: Where slices end.
        top: Size of the top; at least 1.
        confidence: Share of the undecided who would reach the top that is expected to stay; 1 drops nobody.

    Raises:
        ValueError: If top or confidence is out of its range.
    """
    if top < 1 or not 0.0 < confidence <= 1.0:
        raise ValueError(f"top is {top} and confidence {confidence}; at least 1 and a number in (0, 1] are needed")
    if np.count_nonzero(racing) <= top:
        return racing.copy()
    prediction = predict(rewards, asked, ends)
    chances = chances_of_top(prediction.mean[racing], prediction.deviation[racing], top)
    undecided = asked[racing] < ends[-1]
    ascending = np.append(np.sort(chances[undecided]), 1.0)
    dropped = np.searchsorted(np.cumsum(ascending), (1.0 - confidence) * ascending[:-1].sum())
    # Rounding must not tell equals apart.
    least = min(ascending[dropped], np.partition(chances, -top)[-top]) - 1e-9
    stays = racing.copy()
    stays[racing] = ~undecided | (chances >= least)
    return stays


def race(rewards: Floats, *, top: int, confidence: float) -> NDArray[np.int64]:
    """Race a population whose rewards are all known; return how many examples each candidate would have been asked.

    Those asked everything are the race's finalists.

    Args:
        rewards: [candidates, examples], see `stay`.
        top: See `stay`.
        confidence: See `stay`.
    """
    candidates, examples = rewards.shape
    asked, racing = np.zeros(candidates, dtype=np.int64), np.ones(candidates, dtype=np.bool_)
    ends = slice_ends(examples)
    for end in ends:
        asked[racing] = end
        if end < examples:
            racing = stay(rewards, asked, racing, ends, top=top, confidence=confidence)
    return asked


def chances_of_top(mean: Floats, deviation: Floats, top: int) -> Floats:
    """Return each candidate's probability of reaching the score that `top` of them are expected to reach.

    The threshold t solves sum_i P(score_i >= t) = top for independent normal scores.

    Args:
        mean: [candidates].
        deviation: [candidates], not negative.
        top: Fewer than candidates.
    """
    scale = np.maximum(deviation, 1e-9)

    def excess(threshold: float) -> float:
        return float(ndtr((mean - threshold) / scale).sum() - top)

    threshold = brentq(excess, float((mean - 40 * scale).min()), float((mean + 40 * scale).max()), xtol=1e-13)
    chances: Floats = ndtr((mean - threshold) / scale)
    return chances


def predict(rewards: Floats, asked: NDArray[np.int64], ends: list[int]) -> Prediction:
    """Predict full scores from what has been answered; arguments as in `stay`."""
    sums, counts, noise = _summarise(rewards, asked, ends)
    ratio, offsets = _fit(sums, counts, noise)
    answered = counts.sum(axis=1)
    lead = sums.sum(axis=1) - counts @ offsets
    shrink = ratio / (1.0 + ratio * answered)
    ahead = ends[-1] - asked
    # Examples that the judge could not judge are in neither part of the mean.
    scored = np.maximum(answered + ahead, 1.0)
    variance = noise * (np.square(ahead) * shrink + ahead)
    return Prediction((lead + ahead * shrink * lead) / scored, np.sqrt(variance) / scored)


def _summarise(rewards: Floats, asked: NDArray[np.int64], ends: list[int]) -> tuple[Floats, Floats, float]:
    """Sums of rewards and counts of examples, each [candidates, slices that tell anything], and the noise variance."""
    sums, counts = [], []
    squares = freedom = 0.0
    for start, end in zip([0, *ends], ends, strict=False):
        block = np.where((asked >= end)[:, None], rewards[:, start:end], np.nan)
        judged = ~np.isnan(block)
        if not judged.any():
            continue
        filled = np.where(judged, block, 0.0)
        rows, columns = judged.sum(axis=1), judged.sum(axis=0)
        # Two-way residuals; exact where everything was judged.
        by_row = filled.sum(axis=1) / np.maximum(rows, 1)
        by_column = filled.sum(axis=0) / np.maximum(columns, 1)
        residuals = filled - by_row[:, None] - by_column + filled.sum() / judged.sum()
        squares += float(np.square(residuals[judged]).sum())
        freedom += max(0, int(np.count_nonzero(rows)) - 1) * max(0, int(np.count_nonzero(columns)) - 1)
        sums.append(filled.sum(axis=1))
        counts.append(rows.astype(np.float64))
    # Without a degree of freedom: the largest variance that a reward in [0, 1] can have.
    noise = max(squares / freedom, NOISE_FLOOR) if freedom else 0.25
    if not sums:
        return np.zeros((rewards.shape[0], 1)), np.zeros((rewards.shape[0], 1)), noise
    return np.stack(sums, axis=1), np.stack(counts, axis=1), noise


def _fit(sums: Floats, counts: Floats, noise: float) -> tuple[float, Floats]:
    """tau^2 in units of the noise variance, and the slices' means, of greatest likelihood."""
    answered, total = counts.sum(axis=1), sums.sum(axis=1)
    squares = float((np.square(sums) / np.maximum(counts, 1.0)).sum())

    def offsets(ratio: float) -> tuple[Floats, float]:
        """Generalised least squares given the ratio, and what it leaves, in units of a reward squared."""
        shrink = ratio / (1.0 + ratio * answered)
        normal = np.diag(counts.sum(axis=0)) - counts.T @ (shrink[:, None] * counts)
        right = sums.sum(axis=0) - counts.T @ (shrink * total)
        means = np.linalg.lstsq(normal, right, rcond=None)[0]
        return means, squares - float(shrink @ np.square(total)) - float(means @ right)

    def deviance(log_ratio: float) -> float:
        ratio = float(np.exp(log_ratio))
        return float(np.log1p(ratio * answered).sum()) + offsets(ratio)[1] / noise

    bounds = (np.log(1e-8), np.log(1.0 / NOISE_FLOOR))
    found = minimize_scalar(deviance, bounds=bounds, method="bounded", options={"xatol": 0.05})
    ratio = float(np.exp(found.x))
    return ratio, offsets(ratio)[0]
