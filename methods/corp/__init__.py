"""CoRP: reward-weighted, compatibility-aware consolidation of random weight perturbations (arXiv 2605.31494)."""

from methods.corp.consolidation import Consolidation, consolidate
from methods.corp.gate import GateDecision, decide

__all__ = ["Consolidation", "GateDecision", "consolidate", "decide"]
