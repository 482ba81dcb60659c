"""Default time limit of a program in wall-clock seconds, scaled to the machine's speed."""

from __future__ import annotations

import functools
import time

# The slowest canonical solution of HumanEval and MBPP takes well under half of this on the reference machine.
REFERENCE_TIMEOUT = 7.0
_REFERENCE_SECONDS = 0.02
_MOST = 4.0


@functools.cache
def default_timeout() -> float:
    """Return the default time limit in seconds: 7 s, or up to 4 times as much on a slower machine.

    The speed is measured as the CPU time of a fixed loop, the best of three, so that it does not depend on the load.
    """
    best = min(_calibrate() for _ in range(3))
    return REFERENCE_TIMEOUT * min(max(best / _REFERENCE_SECONDS, 1.0), _MOST)


def _calibrate() -> float:
    start = time.thread_time()
    total = 0
    for i in range(250_000):
        total += i % 7
    return time.thread_time() - start
