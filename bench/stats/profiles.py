"""Performance profiles: how often, over tasks, a method is how close to the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def performance_profile(accuracies: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of tasks on which a method is within a margin of the best method there.

    Dolan & Moré 2002 (Mathematical Programming 91:201), with the distance to the best in place of the ratio, since
    accuracies near 0 make ratios of them meaningless. At margin 0 it is the share of tasks won, ties included. A method
    without an accuracy on a task is within no margin there. Margins are of estimates: a profile has no intervals.

    Args:
        accuracies: Shape (methods, tasks), NaN where a method has none; each task has one at least.
        margins: Shape (margins,), at least 0.

    Returns:
        Shape (methods, margins), in [0, 1].

    Raises:
        ValueError: A task has no accuracy at all.
    """
    known = ~np.isnan(accuracies)
    if not known.any(axis=0).all():
        raise ValueError("a task has no accuracy: each needs at least one method with one")
    filled = np.where(known, accuracies, -np.inf)
    distance = filled.max(axis=0) - filled
    within: NDArray[np.float64] = (distance[:, :, None] <= margins + 1e-12).mean(axis=1)
    return within
