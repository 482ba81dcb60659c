"""Weights of compute-aligned training (arXiv 2604.24957). Pure functions.

A test-time strategy turns N answers, each correct with probability p, into one that is correct with probability P(p).
In reinforcement learning the weight of a reward is dP/dp. In fine-tuning the weight of a correct answer's
log-likelihood is d log P / d log p. At N = 1 both are 1.

    pass@N       P = 1 - (1-p)^N           RL  N (1-p)^(N-1)
                                           SFT N p (1-p)^(N-1) / (1 - (1-p)^N)
    majority@N   P = Pr(Bin(N, p) >= k)    RL  N C(N-1, k-1) p^(k-1) (1-p)^(N-k)
                                           SFT k C(N, k) p^k (1-p)^(N-k) / P
    best-of-N    the best of N by reward   RL  N F(y)^(N-1), F the rewards' distribution in the group

The code uses log1p, expm1 and the incomplete beta function, so that the limits at p = 0 and p = 1 are exact.

In reinforcement learning p is not known. The weight of an answer is estimated from the other answers of its group, and
so is independent of the answer itself (`others_rl`). pass@N is the case k = 1. Putting the group's own share of correct
answers into the formula would be biased: in groups of 8, E[8 (1-p)^7] at p = .5 would be .20 in place of .06.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln, gammaln, xlog1py, xlogy

Array = NDArray[np.float64]


def majority(n: int) -> int:
    """Return the smallest number of votes out of n that no other answer can match: floor(n/2) + 1."""
    return n // 2 + 1


def pass_rl(p: ArrayLike, n: int) -> Array:
    """Return N (1-p)^(N-1)."""
    return n * np.exp(xlog1py(n - 1, -_probability(p)))


def pass_sft(p: ArrayLike, n: int) -> Array:
    """Return N p (1-p)^(N-1) / (1 - (1-p)^N), which is 1 at p = 0."""
    p = _probability(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = -np.expm1(xlog1py(n, -p))
        weight = n * p * np.exp(xlog1py(n - 1, -p)) / reached
    return np.where(p > 0, weight, 1.0)


def majority_rl(p: ArrayLike, n: int, k: ArrayLike) -> Array:
    """Return N C(N-1, k-1) p^(k-1) (1-p)^(N-k); `k` may differ between prompts."""
    p, k = _probability(p), _threshold(k, n)
    return np.exp(xlogy(k - 1, p) + xlog1py(n - k, -p) - betaln(k, n - k + 1))  # N C(N-1, k-1) = 1 / B(k, N-k+1)


def others_rl(correct: ArrayLike, wrong: ArrayLike, n: int, k: ArrayLike) -> Array:
    """Estimate N C(N-1, k-1) p^(k-1) (1-p)^(N-k) for an answer from the other answers of its group.

    This is N times the probability that k - 1 of N - 1 answers are correct. The estimate is N times the share of the
    subsets of N - 1 other answers in which k - 1 are correct, which is unbiased. With fewer than N - 1 other answers
    there is no unbiased estimate. Then the share of correct ones among them is used as p.

    Args:
        correct: Number of correct answers among the others.
        wrong: Number of wrong answers among the others.
        n: N.
        k: Number of votes needed; 1 for pass@N.
    """
    c, w = np.asarray(correct, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    k = _threshold(k, n)
    subsets = np.exp(_log_choose(c, k - 1) + _log_choose(w, n - k) - _log_choose(np.maximum(c + w, n - 1), n - 1))
    return np.where(c + w >= n - 1, n * subsets, majority_rl(c / np.maximum(c + w, 1), n, k))


def _log_choose(n: Array, k: ArrayLike) -> Array:
    """Return log C(n, k), which is -inf for k > n."""
    k = np.asarray(k, dtype=np.float64)
    found: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return np.where(k > n, -np.inf, found)


def majority_sft(p: ArrayLike, n: int, k: ArrayLike) -> Array:
    """Return k C(N, k) p^k (1-p)^(N-k) / Pr(Bin(N, p) >= k), which is k at p = 0."""
    p, k = _probability(p), _threshold(k, n)
    reached = betainc(k, n - k + 1, p)
    # Near p = 0 numerator and denominator both underflow, so the limit of their ratio is used.
    underflow = reached < 1e-280
    return np.where(underflow, k, p * majority_rl(p, n, k) / np.where(underflow, 1.0, reached))


def best_rl(rewards: ArrayLike, n: int) -> Array:
    """Return N F(y)^(N-1) for each answer y of a group, averaged over the ranks of answers with equal rewards.

    A weight is the probability of being the best of N draws from the group, relative to that of a single draw. So
    every group has mean 1, and all weights are 1 in a group with equal rewards.

    Args:
        rewards: Rewards, [..., group].
        n: N.
    """
    r = np.asarray(rewards, dtype=np.float64)
    below = (r[..., None, :] < r[..., :, None]).mean(axis=-1)
    equal = (r[..., None, :] == r[..., :, None]).mean(axis=-1)
    weight: Array = ((below + equal) ** n - below**n) / equal
    return weight


def rival_threshold(n: int, rival: ArrayLike) -> NDArray[np.int_]:
    """Return the number of votes out of n that beats the most common wrong answer, whose expected votes are n * rival.

    Args:
        n: N.
        rival: Share of the group that gave its most common wrong answer.
    """
    return np.clip(np.floor(n * np.asarray(rival, dtype=np.float64) + 1e-9).astype(int) + 1, 1, majority(n))


def normalised(weights: Array, counted: ArrayLike = True) -> Array:
    """Return weights scaled to mean 1 over a batch. Weights that are all 0 stay 0: such a batch teaches nothing.

    Args:
        weights: Weights of any shape.
        counted: Mask of the weights that make the mean. Default: all.
    """
    counted = np.broadcast_to(counted, weights.shape)
    mean = weights[counted].mean() if counted.any() else 0.0
    return weights / mean if mean > 0 else weights


def _probability(p: ArrayLike) -> Array:
    array = np.asarray(p, dtype=np.float64)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"a probability in [0, 1] is needed, not {array[~((array >= 0) & (array <= 1))][:3]}")
    return array


def _threshold(k: ArrayLike, n: int) -> Array:
    array = np.asarray(k, dtype=np.float64)
    if not ((array >= 1) & (array <= n)).all():
        raise ValueError(f"a majority of {n} takes 1 to {n} votes, not {array}")
    return array
