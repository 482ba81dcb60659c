"""The default time limit: wall-clock seconds, scaled to the machine."""

from __future__ import annotations

import functools
import time

# The slowest canonical solution of HumanEval and MBPP takes well under half of this on the reference machine.
REFERENCE_TIMEOUT = 7.0
_REFERENCE_SECONDS = 0.02
_MOST = 4.0


@functools.cache
def default_timeout() -> float:
    """Returns the limit for a program that names none: 7 s, and up to 4 times more on a slower machine.

    Slowness is that of a fixed loop in CPU time, the best of three: the machine's, not its present load's.
    """
    best = min(_calibrate() for _ in range(3))
    return REFERENCE_TIMEOUT * min(max(best / _REFERENCE_SECONDS, 1.0), _MOST)


def _calibrate() -> float:
    start = time.thread_time()
    total = 0
    for i in range(250_000):
        total += i % 7
    return time.thread_time() - start
