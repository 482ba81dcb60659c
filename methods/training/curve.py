"""Training curve: one row of values per step, and its columns in the record. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

Row = dict[str, float | None]
"""Values of one step, such as `{"reward": 0.4, "correct": 0.4, "length": 3.8, "loss": 0.02}`. None where nothing was
judged."""

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "step": "number of the step, from 1; of the last one where a value is a mean over several",
        "reward": "mean reward of the answers that could be judged; none if there is no such answer",
        "correct": "share of correct answers among those that could be judged; none if there is no such answer",
        "length": "mean number of tokens of an answer, with its end",
        "truncated": "share of answers that were cut off at the limit on their length",
        "entropy": "mean entropy, in nats, of the distributions that the tokens of the answers were sampled from, at "
        "the rollouts' temperature and before the step's update; with gold answers, of the predictions of their "
        "tokens; with --engine vllm, of the updates' own distributions, over the answers that have a loss",
        "loss": "the trainer's loss of the policy, a mean over the step's passes",
        "value_loss": "the trainer's loss of the value model, a mean over the step's passes",
        "norm": "norm of the policy's gradient before clipping, a mean over the step's updates",
        "ess": "effective sample size of the answers' importance weights, as a share of the answers; a mean over the "
        "step's updates",
        "kept": "number of different right answers that the round has kept so far",
        "opposed": "share of the gradients of general examples, layer by layer, that oppose the target's",
        "cosine": "cosine of the gradient that the step follows and the target's",
        "flat": "share of groups whose answers have equal rewards, and so give no signal; none if no answer could be "
        "judged",
        "divergence": "mean over the tokens of the batch of the estimated divergence from the teacher, before the "
        "step's update",
        "unpaired": "share of groups without a pair of a right and a wrong answer",
        "mismatch": "mean distance from 1 of the probability of each sampled token in the update by its probability in "
        "the engine that sampled it, before the step's first update; with --engine vllm alone",
        "dropped": "share of answers that a model did not learn from, because another model sampled them and they were "
        "too unlikely under its own distribution; a mean over models",
    }
)
"""Columns of a training curve and their meaning, which is the same for every method that has the column.

An answer that began with given tokens counts in none of `reward`, `correct`, `length`, `truncated` and `entropy`."""


def curve(rows: Sequence[Mapping[str, float | None]], points: int = 400) -> dict[str, list[float | None]]:
    """Return the training curve as columns of at most `points` values.

    Each value is the mean over a run of steps, and `step` is the last step of that run. Steps without a value do not
    count in the mean; a step without an update has no loss, for example. Non-finite values become None, because JSON
    has none. Example:
    `{"step": [2.0, 4.0], "reward": [0.4, 0.5], "loss": [0.02, None]}`.

    Args:
        rows: One row per step.
        points: Maximum number of points.
    """
    if not rows:
        return {}
    width = math.ceil(len(rows) / points)
    bins = [rows[start : start + width] for start in range(0, len(rows), width)]
    columns: dict[str, list[float | None]] = {"step": []}
    for number in range(1, len(bins) + 1):
        columns["step"].append(float(min(len(rows), number * width)))
    for name in dict.fromkeys(name for row in rows for name in row):
        means = [mean_of(part, name) for part in bins]
        columns[name] = [float(f"{m:.6g}") if m is not None and math.isfinite(m) else None for m in means]
    return columns


def mean_of(rows: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    """Return the mean of a column over the rows that have a value; None if none has."""
    values = [value for row in rows if (value := row.get(name)) is not None]
    return sum(values) / len(values) if values else None
