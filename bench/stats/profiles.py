"""Performance profiles of methods over tasks."""

from __future__ import annotations

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
