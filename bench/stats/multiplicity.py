"""Multiple comparisons: Holm correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm-corrected p-values, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65).

    If corrected p-values of at most .05 are called significant, the family-wise error rate is at most .05 under any
    dependence of the tests. Example: `holm([0.01, 0.04, 0.03, 0.005])` is `[0.03, 0.06, 0.06, 0.02]`.

    Raises:
        ValueError: If a p-value is not in [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are {p}: numbers from 0 to 1 are needed")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return corrected
