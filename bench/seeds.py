"""Seed derivation: each random stream gets a seed that depends on its named parts only."""

from __future__ import annotations

import hashlib


def derive(*parts: str | int) -> int:
    """Return a seed in [0, 2**63), a fixed function of the parts.

    Args:
        parts: Everything the stream may depend on. Example: `derive(run_seed, "corp", "population", 3)`.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
