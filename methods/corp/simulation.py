"""CoRP against coin flips: how often the whole procedure keeps a change that is none, and finds one that is.

The method runs as it is; only the answers are simulated. An answer of a changed model is the base's, or at the flip
rate a fresh draw with the item's own probability of success, shifted by the true effect. Without an effect, base and
changed model are exchangeable, whatever the method does in between. Every answer costs the same, and answers flip
around the base's also where the method has moved on from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import AdaptationAccount
from bench.seeds import derive
from bench.weights.points import Point
from methods.corp.config import CorpConfig
from methods.corp.method import Corp
from methods.interface import AdaptationSplit, Evaluation, SingleModel

FLOPS = 1000
"""Cost of every evaluation, arbitrary and equal."""


class CoinFlips:
    """A context whose model answers at random. See `methods.interface.Context`.

    Args:
        seed: Of method and answers.
        sizes: Examples by split.
        evaluations: Budget.
        accuracy: Mean probability of a right answer; items vary around it.
        flip_rate: Share of items that a changed model answers afresh.
        effect: True gain in accuracy of every changed model.
    """

    def __init__(
        self,
        seed: int,
        sizes: dict[str, int],
        evaluations: int,
        *,
        accuracy: float = 0.5,
        flip_rate: float = 1.0,
        effect: float = 0.0,
    ) -> None:
        self.seed, self.sizes, self.evaluation_flops = seed, sizes, float(FLOPS)
        self.budget = self.remaining = evaluations * FLOPS
        self._flip_rate, self._shift = flip_rate, effect / flip_rate
        self._rng = np.random.default_rng(derive(seed, "coin flips"))
        self._odds = {name: self._rng.beta(4 * accuracy, 4 * (1 - accuracy), n) for name, n in sizes.items()}
        self._base = {name: self._rng.random(p.size) < p for name, p in self._odds.items()}

    def evaluate(
        self,
        point: Point,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        size: int | None = None,
        allowance: int | None = None,
    ) -> Evaluation:
        """Flip coins for the first `size` examples of a split."""
        odds, base = self._odds[split][:size], self._base[split][:size]
        flops = odds.size * FLOPS
        if allowance is not None and flops > allowance:
            self.remaining -= allowance
            return Evaluation(np.empty(0), np.empty(0, dtype=np.bool_), allowance, complete=False)
        if flops > self.remaining:
            raise RuntimeError("the method exceeded its budget")
        self.remaining -= flops
        correct = base if point.is_base else self._changed(odds, base)
        return Evaluation(correct.astype(np.float64), correct, flops)

    def _changed(self, odds: NDArray[np.float64], base: NDArray[np.bool_]) -> NDArray[np.bool_]:
        afresh = self._rng.random(odds.size) < self._flip_rate
        drawn = self._rng.random(odds.size) < odds + self._shift
        return np.where(afresh, drawn, base)

    @contextmanager
    def stage(self, name: str, steps: int | None = None) -> Iterator[CoinFlips]:
        """Show nothing."""
        yield self

    def advance(self, score: float | None = None) -> None:
        """Show nothing."""


def commits(
    runs: int,
    sizes: dict[str, int],
    evaluations: int,
    config: CorpConfig | None = None,
    **world: float,
) -> float:
    """Return the share of simulated runs that change the model.

    Args:
        runs: How many, each with a seed and a world of its own.
        sizes: Examples by split.
        evaluations: Budget of each.
        config: CoRP's settings; None for its defaults.
        world: `accuracy`, `flip_rate` and `effect` of `CoinFlips`.
    """
    method = Corp(config or CorpConfig())
    changed = 0
    for seed in range(runs):
        artifact = method.adapt(CoinFlips(seed, sizes, evaluations, **world))
        assert isinstance(artifact, SingleModel)
        changed += not artifact.point.is_base
    return changed / runs
