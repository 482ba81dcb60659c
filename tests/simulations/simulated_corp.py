"""False-positive rate and power of the full CoRP procedure on simulated answers."""

from __future__ import annotations

from methods.corp.config import CorpConfig
from methods.corp.method import Corp
from methods.interface import SingleModel
from methods.testing import CoinFlips


def acceptance_rate(
    runs: int,
    sizes: dict[str, int],
    evaluations: int,
    config: CorpConfig | None = None,
    **simulation: float,
) -> float:
    """Return the share of simulated runs that accept a change of the model.

    Args:
        runs: Number of runs, each with its own seed and simulated answers.
        sizes: Number of examples by split.
        evaluations: Budget of each run in model-prompt evaluations.
        config: CoRP's configuration; None for the defaults.
        simulation: Arguments `accuracy`, `flip_rate` and `effect` of `CoinFlips`.
    """
    method = Corp(config or CorpConfig())
    changed = 0
    for seed in range(runs):
        artifact = method.adapt(CoinFlips(seed, sizes, evaluations, **simulation))
        assert isinstance(artifact, SingleModel)
        changed += not artifact.point.is_base
    return changed / runs
