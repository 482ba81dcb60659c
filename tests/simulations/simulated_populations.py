"""Synthetic populations whose structure is known: what the split halves find there, and what they see where nothing is.

A candidate is an i.i.d. Gaussian vector x of about unit length in D dimensions, z its coordinates in a subspace of a
few, scaled to unit variance. An example that the base gets right with odds of its own is answered right with a
probability whose logit is shifted by the candidate's quality: strength * (<z, c> + (|z|^2 - rank) / sqrt(2 rank)) /
sqrt(2), with c a unit vector. The linear part moves the mean of the rewarded along c, the quadratic one makes them vary
within the subspace. Quality may instead be the candidate's own, of the same variance and without any direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.analysis.population import Population
from reports.analysis.split_half import split_half

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What a population is drawn from.

    Attributes:
        candidates: In all.
        examples: In all.
        dimensions: D.
        rank: Of the planted subspace.
        planted: Strength of the planted structure, in logits.
        own: Strength of qualities without direction.
    """

    candidates: int = 240
    examples: int = 100
    dimensions: int = 16
    rank: int = 3
    planted: float = 0.0
    own: float = 0.0

    def draw(self, seed: int) -> tuple[Population, Floats]:
        """Return a population of one scale and its vectors."""
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((self.candidates, self.dimensions)) / np.sqrt(self.dimensions)
        frame, _ = np.linalg.qr(rng.standard_normal((self.dimensions, self.rank)))
        z = vectors @ frame * np.sqrt(self.dimensions)
        square = (np.square(z).sum(axis=1) - self.rank) / np.sqrt(2 * self.rank)
        quality = self.planted * (z[:, 0] + square) / np.sqrt(2) + self.own * rng.standard_normal(self.candidates)
        logits = rng.standard_normal(self.examples) + quality[:, None]
        correct = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
        sigmas = np.ones(self.candidates)
        return Population(sigmas, correct.astype(np.float64), correct, None, None, "iid", ()), vectors


@dataclass(frozen=True)
class Found:
    """How often each statistic was significant at 5 % on its own, and either of two at 5 % for both."""

    reproduced: tuple[float, float, float]
    shared: tuple[float, float, float]


def found(world: World, draws: int, *, rank: int = 3, permutations: int = 199) -> Found:
    """Return in what share of populations structure is found: top directions, mean direction, either."""
    p_values = []
    for seed in range(draws):
        halves = split_half(*world.draw(seed), rank=rank, permutations=permutations, seed=seed)
        assert halves.shared
        p_values.append([(o.subspace.p_value, o.mean.p_value) for o in (halves.reproduced, halves.shared)])
    table = np.array(p_values)

    def shares(own: Floats) -> tuple[float, float, float]:
        either = own.min(axis=1) <= 0.025  # of two, Holm's first step is Bonferroni's
        return float((own[:, 0] <= 0.05).mean()), float((own[:, 1] <= 0.05).mean()), float(either.mean())

    return Found(shares(table[:, 0]), shares(table[:, 1]))
