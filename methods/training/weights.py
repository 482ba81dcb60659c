"""Compute-aligned training's weights: what an answer counts when a test-time strategy will use it. Pure.

A strategy turns N answers, each right with probability p, into one that is right with probability P(p). Weights are
the derivative of what is maximised: for reinforcement learning dP/dp, on the reward; for fine-tuning on a right answer
d log P / d log p, on its log-likelihood. At N = 1 both are 1. After arXiv 2604.24957.

    pass@N       P = 1 - (1-p)^N           RL  N (1-p)^(N-1)
                                           SFT N p (1-p)^(N-1) / (1 - (1-p)^N)
    majority@N   P = Pr(Bin(N, p) >= k)    RL  N C(N-1, k-1) p^(k-1) (1-p)^(N-k)
                                           SFT k C(N, k) p^k (1-p)^(N-k) / P
    best-of-N    the best of N by reward   RL  N F(y)^(N-1), F the rewards' distribution in the group

Probabilities near 0 and 1 go through log1p, expm1 and the incomplete beta function, so that limits are reached.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln, xlog1py, xlogy

Array = NDArray[np.float64]


def majority(n: int) -> int:
    """Return the least number of equal votes of n that no other answer can reach."""
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
    """Return N C(N-1, k-1) p^(k-1) (1-p)^(N-k); `k` may differ from prompt to prompt."""
    p, k = _probability(p), _threshold(k, n)
    return np.exp(xlogy(k - 1, p) + xlog1py(n - k, -p) - betaln(k, n - k + 1))  # N C(N-1, k-1) = 1 / B(k, N-k+1)


def majority_sft(p: ArrayLike, n: int, k: ArrayLike) -> Array:
    """Return k C(N, k) p^k (1-p)^(N-k) / Pr(Bin(N, p) >= k), which is k at p = 0."""
    p, k = _probability(p), _threshold(k, n)
    reached = betainc(k, n - k + 1, p)
    # Towards 0 numerator and denominator vanish together, and underflow before their ratio is taken.
    vanishing = reached < 1e-280
    return np.where(vanishing, k, p * majority_rl(p, n, k) / np.where(vanishing, 1.0, reached))


def best_rl(rewards: ArrayLike, n: int) -> Array:
    """Return N F(y)^(N-1) for each answer y of a group, averaged over the ranks that answers of equal reward share.

    So a group without differences has weight 1 throughout, and every group has mean 1: the weight is the chance of
    being taken as the best of N draws from the group, relative to that of a plain draw.

    Args:
        rewards: [..., group].
        n: N.
    """
    r = np.asarray(rewards, dtype=np.float64)
    below = (r[..., None, :] < r[..., :, None]).mean(axis=-1)
    equal = (r[..., None, :] == r[..., :, None]).mean(axis=-1)
    weight: Array = ((below + equal) ** n - below**n) / equal
    return weight


def rival_threshold(n: int, rival: ArrayLike) -> NDArray[np.int_]:
    """Return the votes of n that beat the commonest wrong answer of a group: one more than its share would get.

    Args:
        n: N.
        rival: Share of the group that gave its commonest wrong answer.
    """
    return np.clip(np.floor(n * np.asarray(rival, dtype=np.float64) + 1e-9).astype(int) + 1, 1, majority(n))


def normalised(weights: Array) -> Array:
    """Return weights scaled to mean 1 over a batch; all 1 where they are all 0, as nothing then tells them apart."""
    mean = weights.mean()
    return weights / mean if mean > 0 else np.ones_like(weights)


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
