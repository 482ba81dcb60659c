"""CoRP: reward-weighted, compatibility-aware consolidation of random weight perturbations (arXiv 2605.31494)."""

from methods.corp.consolidation import Consolidation, consolidate

__all__ = ["Consolidation", "consolidate"]
