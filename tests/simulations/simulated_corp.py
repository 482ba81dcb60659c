"""CoRP against coin flips: how often the whole procedure keeps a change that is none, and finds one that is."""

from __future__ import annotations

from methods.corp.config import CorpConfig
from methods.corp.method import Corp
from methods.interface import SingleModel
from methods.testing import CoinFlips


def commits(
    runs: int,
    sizes: dict[str, int],
    evaluations: int,
    config: CorpConfig | None = None,
    **world: float,
) -> float:
    """Return the share of simulated runs that change the model.

    Args:
        runs: How many, each with a seed and a world of its own.
        sizes: Examples by split.
        evaluations: Budget of each.
        config: CoRP's settings; None for its defaults.
        world: `accuracy`, `flip_rate` and `effect` of `CoinFlips`.
    """
    method = Corp(config or CorpConfig())
    changed = 0
    for seed in range(runs):
        artifact = method.adapt(CoinFlips(seed, sizes, evaluations, **world))
        assert isinstance(artifact, SingleModel)
        changed += not artifact.point.is_base
    return changed / runs
