"""Geometry of adapted models around their base: size and direction of moves, divergence, accuracy along lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, rel_entr, softmax, stdtrit

from bench.stats import Estimate
from reports.analysis.results import Drift, LayerMove, Line, ModelMove

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

CHUNK = 1 << 18
"""Weights of a tensor that are converted to float64 at a time."""


@dataclass
class _Sums:
    """Sums over the weights of one kind of layer.

    Attributes:
        inner: Inner products of the artifacts' changes, shape [artifacts, artifacts].
        base: Sum of the squares of the base's weights.
        weights: Number of weights.
    """

    inner: Floats
    base: float = 0.0
    weights: int = 0


class MoveSums:
    """Inner products of the changes of several artifacts, by kind of layer. Tensors are added one at a time.

    Args:
        artifacts: Number of artifacts.
    """

    def __init__(self, artifacts: int) -> None:
        self._artifacts = artifacts
        self._kinds: dict[str, _Sums] = {}

    def add(self, kind: str, base: Singles, moved: Sequence[Singles]) -> None:
        """Add one tensor.

        Args:
            kind: Kind of layer that it belongs to.
            base: The base's values, flat.
            moved: Each artifact's values, flat.
        """
        sums = self._kinds.setdefault(kind, _Sums(np.zeros((self._artifacts, self._artifacts))))
        for start in range(0, base.size, CHUNK):
            before = base[start : start + CHUNK].astype(np.float64)
            changes = np.stack([values[start : start + CHUNK] - before for values in moved])
            sums.inner += changes @ changes.T
            sums.base += float(before @ before)
        sums.weights += base.size

    @property
    def weights(self) -> int:
        """Number of weights of all tensors."""
        return sum(sums.weights for sums in self._kinds.values())

    def move(self, artifact: int, name: str, run: str, task: str) -> ModelMove:
        """Return the change of one artifact, which has the other attributes given.

        Args:
            artifact: Index of the artifact.
            name: See `ModelMove`.
            run: See `ModelMove`.
            task: See `ModelMove`.
        """
        squares = {kind: float(sums.inner[artifact, artifact]) for kind, sums in self._kinds.items()}
        whole, base = math.fsum(squares.values()), math.fsum(sums.base for sums in self._kinds.values())
        layers = tuple(
            LayerMove(
                kind=kind,
                weights=sums.weights,
                norm=math.sqrt(squares[kind]),
                relative=_ratio(squares[kind], sums.base),
                share=squares[kind] / whole if whole else 0.0,
            )
            for kind, sums in self._kinds.items()
        )
        return ModelMove(name, run, task, math.sqrt(whole), _ratio(whole, base), layers)

    def cosines(self) -> tuple[tuple[float, ...], ...]:
        """Return the cosines between the changes. A change of length 0 has cosine 0 with all others."""
        inner = sum((sums.inner for sums in self._kinds.values()), np.zeros((self._artifacts, self._artifacts)))
        norms = np.sqrt(np.diag(inner))
        lengths = np.outer(norms, norms)
        found = np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0).clip(-1, 1)
        np.fill_diagonal(found, 1.0)
        return tuple(tuple(row) for row in found.tolist())


def _ratio(square: float, base: float) -> float | None:
    return math.sqrt(square / base) if base else None


def divergences(base: NDArray[Any], moved: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return KL(base || moved) and KL(moved || base) at each position, in nats.

    Args:
        base: Logits of the base, shape [positions, vocabulary].
        moved: Logits of another model, shape [positions, vocabulary].
    """
    one, two = (softmax(logits.astype(np.float64), axis=1) for logits in (base, moved))
    # Rounding can make a divergence near 0 negative.
    return rel_entr(one, two).sum(axis=1).clip(0), rel_entr(two, one).sum(axis=1).clip(0)


def drift(name: str, task: str, *, on_task: bool, answers: Sequence[tuple[Floats, Floats]]) -> Drift:
    """Return the divergence of an artifact from the base on the prompts of one task.

    Args:
        name: Name of the artifact.
        task: Task of the prompts.
        on_task: Whether the artifact's run was tested on this task.
        answers: Divergences at each token of the base's answer, for at least two prompts, from `divergences`.
    """
    means = np.array([[each.mean() for each in pair] for pair in answers])
    tokens = sum(pair[0].size for pair in answers)
    from_base, to_base = (_mean(column, least=0.0) for column in means.T)
    return Drift(name, task, on_task, len(answers), tokens, from_base, to_base)


def _mean(values: Floats, *, least: float) -> Estimate:
    """Return a mean with its 95 % t interval, cut off at the least possible value."""
    mean, n = float(values.mean()), values.size
    half = float(values.std(ddof=1) / math.sqrt(n) * stdtrit(n - 1, 0.975))
    return Estimate(mean, max(mean - half, least), mean + half)


def along(start: str, end: str, task: str, places: Sequence[float], correct: NDArray[np.bool_]) -> Line:
    """Return the accuracy along a line between two models.

    The interval of the largest drop is the widest of a t interval and of a score interval for items that no model
    answers differently, which a t interval would call certain. Both are corrected for the number of models between the
    ends (Bonferroni), because the largest drop is chosen among them.

    Args:
        start: Name of the model at 0.
        end: Name of the model at 1.
        task: Task that the models answered.
        places: Places on the line: 0, at least one in between, and 1.
        correct: Whether each answer is correct, shape [places, items], with at least two items.
    """
    t = np.array(places)[1:-1, None]
    drops = (1 - t) * correct[0] + t * correct[-1] - correct[1:-1]
    at, n = int(drops.mean(axis=1).argmax()), drops.shape[1]
    value, level = float(drops[at].mean()), 0.05 / len(drops)
    square = float(ndtri(1 - level / 2)) ** 2
    half = float(drops[at].std(ddof=1) / math.sqrt(n) * stdtrit(n - 1, 1 - level / 2))
    half = max(half, square / (n + square))
    return Line(
        start=start,
        end=end,
        task=task,
        items=n,
        places=tuple(places),
        accuracy=tuple(correct.mean(axis=1).tolist()),
        barrier=Estimate(value, max(value - half, -1.0), min(value + half, 1.0)),
        barrier_at=places[1 + at],
    )
