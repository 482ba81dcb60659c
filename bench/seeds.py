"""Seeds by derivation: every random stream is named by what it may depend on, and by nothing else."""

from __future__ import annotations

import hashlib


def derive(*parts: str | int) -> int:
    """Return a seed in [0, 2**63) that is a fixed function of the named parts.

    Args:
        parts: What the stream may depend on, such as a run's seed, the purpose, and a candidate's index.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
