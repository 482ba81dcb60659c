"""Simulated context for tests of methods. A model answers at random, and every answer costs the same.

An answer of a changed model is resampled with probability `flip_rate`; otherwise it equals the base's answer. A
resampled answer is correct with the item's own probability of success, raised so that the expected gain in accuracy is
`effect`. With `effect=0` the base and all changed models are exchangeable, whatever the method does, so any gain is
chance. Resampling always starts from the base's answers, even after the method has committed another model.

Example:
    ```python
    context = CoinFlips(seed=0, sizes={"support": 40, "select": 20}, evaluations=1000)
    artifact = MyMethod(MyConfig()).adapt(context)
    assert context.remaining <= 0.05 * context.budget
    ```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import AdaptationAccount
from bench.seeds import derive
from bench.weights.checkpoint import Checkpoint, Place
from methods.interface import AdaptationSplit, Answers, Evaluation, Lora, Training
from tasks.interface import DEFAULT_PROMPT, TaskTraits, Vote

__all__ = ["FLOPS", "CoinFlips"]

FLOPS = 1000
"""Simulated cost of one evaluation, in FLOPs."""


class CoinFlips:
    """Context whose model answers at random. See `methods.interface.Context` and the module's docstring.

    Args:
        seed: Seed of the run and of the answers.
        sizes: Number of examples by split.
        evaluations: Budget in evaluations.
        accuracy: Mean probability of a correct answer. Items vary around it by a beta distribution.
        flip_rate: Probability that an answer of a changed model is resampled, in (0, 1].
        effect: True gain in accuracy of every changed model, as a fraction.
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
        self.seed, self.task, self.evaluation_flops = seed, TaskTraits(sizes), float(FLOPS)
        self.report: dict[str, Any] = {}
        self.budget = self.remaining = evaluations * FLOPS
        self._flip_rate, self._shift = flip_rate, effect / flip_rate
        self._rng = np.random.default_rng(derive(seed, "coin flips"))
        self._odds = {name: self._rng.beta(4 * accuracy, 4 * (1 - accuracy), n) for name, n in sizes.items()}
        self._base = {name: self._rng.random(p.size) < p for name, p in self._odds.items()}

    def evaluate(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
        prompt: str = DEFAULT_PROMPT,
    ) -> Evaluation:
        """Return simulated scores; raise RuntimeError if the method exceeds its budget."""
        part = slice(None) if examples is None else slice(examples.start, examples.stop)
        odds, base = self._odds[split][part], self._base[split][part]
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
        flipped = self._rng.random(odds.size) < self._flip_rate
        drawn = self._rng.random(odds.size) < odds + self._shift
        return np.where(flipped, drawn, base)

    def answer(self, point: Place, split: AdaptationSplit, **rest: Any) -> Answers:
        """Raise NotImplementedError: random answers have no text."""
        raise NotImplementedError("a model that answers by coin flips writes no answers")

    def votes(self, split: AdaptationSplit, examples: Sequence[int], texts: Sequence[str]) -> list[Vote | None]:
        """Raise NotImplementedError: random answers have no text."""
        raise NotImplementedError("a model that answers by coin flips writes no answers")

    def train(self, allowance: int, lora: Lora | None = None, start: Checkpoint | None = None) -> Training:
        """Raise NotImplementedError: random answers cannot be trained."""
        raise NotImplementedError("a model that answers by coin flips cannot be trained")

    def prepare(self, points: Sequence[Place], split: AdaptationSplit, **rest: Any) -> None:
        """Do nothing."""

    @contextmanager
    def stage(self, name: str, steps: int | None = None) -> Iterator[CoinFlips]:
        """Do nothing."""
        yield self

    def advance(self, score: float | None = None, *, values: Mapping[str, float | None] | None = None) -> None:
        """Do nothing."""
