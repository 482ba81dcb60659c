"""Self-consistency (Wang et al. 2022, arXiv 2203.11171): sample several answers and return the most common one.

This control is what a K-way ensemble must beat at the same inference cost. Sampling uses temperature alone, without the
paper's top-k.
"""

from __future__ import annotations

from methods.plurality import PluralityMethod


class SelfConsistency(PluralityMethod):
    """Sample the base model several times and return the plurality answer."""

    name = "self-consistency"
    version = "1"
