"""Synthetic populations with known structure, and the rates at which split halves detect it.

A candidate is an i.i.d. Gaussian vector x of about unit length in D dimensions. z are its coordinates in a planted
subspace of low rank, scaled to unit variance. Each example has a random base logit, and a candidate adds its quality
to this logit. The quality is strength * (<z, c> + (|z|^2 - rank) / sqrt(2 rank)) / sqrt(2), with a unit vector c. Its
linear part moves the mean of the rewarded candidates along c, and its quadratic part makes them vary within the
subspace. A quality without direction, of the same variance, can be added too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.weights.noise import PLAIN
from reports.analysis.population import Population
from reports.analysis.split_half import split_half

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedPopulation:
    """Distribution of a synthetic population.

    Attributes:
        candidates: Number of candidates.
        examples: Number of examples.
        dimensions: Number of dimensions D.
        rank: Rank of the planted subspace.
        planted: Strength of the planted structure, in logits.
        own: Strength of qualities without direction, in logits.
    """

    candidates: int = 240
    examples: int = 100
    dimensions: int = 16
    rank: int = 3
    planted: float = 0.0
    own: float = 0.0

    def draw(self, seed: int) -> tuple[Population, Floats]:
        """Return a population with a single scale, and its candidates' vectors."""
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((self.candidates, self.dimensions)) / np.sqrt(self.dimensions)
        frame, _ = np.linalg.qr(rng.standard_normal((self.dimensions, self.rank)))
        z = vectors @ frame * np.sqrt(self.dimensions)
        square = (np.square(z).sum(axis=1) - self.rank) / np.sqrt(2 * self.rank)
        quality = self.planted * (z[:, 0] + square) / np.sqrt(2) + self.own * rng.standard_normal(self.candidates)
        logits = rng.standard_normal(self.examples) + quality[:, None]
        correct = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
        sigmas = np.ones(self.candidates)
        return Population(sigmas, correct.astype(np.float64), correct, None, None, PLAIN, ()), vectors


@dataclass(frozen=True)
class DetectionRates:
    """Shares of populations with a significant result at 5 %: subspace, mean direction, and either of the two.

    "Either" is corrected for two tests.

    Attributes:
        reproduced: Rates for the same candidates on other examples.
        shared: Rates for other candidates on other examples.
    """

    reproduced: tuple[float, float, float]
    shared: tuple[float, float, float]


def detection_rates(
    population: SimulatedPopulation, draws: int, *, rank: int = 3, permutations: int = 199
) -> DetectionRates:
    """Return the shares of simulated populations in which structure is detected."""
    p_values = []
    for seed in range(draws):
        halves = split_half(*population.draw(seed), rank=rank, permutations=permutations, seed=seed)
        assert halves.shared
        p_values.append([(o.subspace.p_value, o.mean.p_value) for o in (halves.reproduced, halves.shared)])
    table = np.array(p_values)

    def shares(own: Floats) -> tuple[float, float, float]:
        either = own.min(axis=1) <= 0.025  # for two tests, Holm's first step equals Bonferroni's
        return float((own[:, 0] <= 0.05).mean()), float((own[:, 1] <= 0.05).mean()), float(either.mean())

    return DetectionRates(shares(table[:, 0]), shares(table[:, 1]))
