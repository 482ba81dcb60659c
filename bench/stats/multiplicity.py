"""Many comparisons in one table: how much surer each must be for the table as a whole to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values for being one family, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Calling those significant that are at most .05 makes any false call in the family with probability at most .05,
    however the tests depend on each other.

    Raises:
        ValueError: A p-value is not in [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are {p}: numbers from 0 to 1 are needed")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return corrected
