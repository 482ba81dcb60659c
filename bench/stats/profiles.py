"""Performance profiles of methods over tasks.

The interval is the stratified bootstrap of `rliable` (Agarwal et al. 2021, arXiv 2108.13264). The package itself is not
used: it needs arch, seaborn and matplotlib, and its profiles are of scores, not of distances to the best method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def performance_profile(accuracies: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of tasks on which each method is within each margin of the best method.

    Dolan & Moré 2002 (Mathematical Programming 91:201), with the distance to the best method instead of the ratio,
    because ratios of accuracies near 0 are not meaningful. At margin 0 the share is that of tasks won, including ties.
    A task without an accuracy of the method counts as outside every margin. Confidence intervals are ignored.

    Args:
        accuracies: Accuracies, shape (methods, tasks); NaN if a method has none, but each task needs at least one.
        margins: Margins, shape (margins,), at least 0.

    Returns:
        Shares in [0, 1], shape (methods, margins).

    Raises:
        ValueError: If a task has no accuracy at all.
    """
    known = ~np.isnan(accuracies)
    if not known.any(axis=0).all():
        raise ValueError("a task has no accuracy: every task needs the accuracy of at least one method")
    filled = np.where(known, accuracies, -np.inf)
    distance = filled.max(axis=0) - filled
    within: NDArray[np.float64] = (distance[:, :, None] <= margins + 1e-12).mean(axis=1)
    return within


def profile_interval(
    scores: Sequence[Sequence[NDArray[np.float64]]], margins: NDArray[np.float64], resamples: int = 2000
) -> NDArray[np.float64]:
    """Return 95 % intervals of performance profiles: percentiles of a stratified bootstrap over seeds.

    Each resample draws the seeds of every method on every task with replacement, apart from the others. It treats the
    tasks as given, and has no variation where a method has one seed or none.

    Args:
        scores: Accuracies of the seeds, by method and task; an empty array if a method has none.
        margins: Margins, shape (margins,), at least 0.
        resamples: Number of resamples, drawn by a fixed random generator.

    Returns:
        Lower and upper bounds, shape (2, methods, margins).
    """
    rng = np.random.default_rng(0)
    drawn = np.full((resamples, len(scores), len(scores[0])), np.nan)
    for method, tasks in enumerate(scores):
        for task, seeds in enumerate(tasks):
            if seeds.size:
                drawn[:, method, task] = seeds[rng.integers(seeds.size, size=(resamples, seeds.size))].mean(axis=1)
    profiles = np.array([performance_profile(accuracies, margins) for accuracies in drawn])
    bounds: NDArray[np.float64] = np.quantile(profiles, (0.025, 0.975), axis=0)
    return bounds
