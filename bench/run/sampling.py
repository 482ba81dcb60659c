"""Test-time strategies: draw several samples from one model, and choose one answer.

The strategy belongs to the test, not to the method. It applies to base and artifacts alike, with the same random
streams in every run, so the base's answers are the same in all runs. `maj@K` and `bon@K` choose answers as the methods
`self-consistency` and `best-of-n` do.
"""

from __future__ import annotations

from bench.seeds import derive
from bench.strategy import Strategy
from methods.best_of_n import BestOfN
from methods.interface import Artifact, Decoding, SingleModel
from methods.sampling import SamplingConfig, SamplingMethod
from methods.self_consistency import SelfConsistency
from tasks.interface import TaskTraits

SAMPLES = SamplingConfig()
"""Sampling temperature and top_p of the strategies: the defaults of the sampling methods."""
CHOOSERS: dict[str, type[SamplingMethod]] = {"maj": SelfConsistency, "bon": BestOfN}


def sample_decodings(samples: int) -> tuple[Decoding, ...]:
    """Return one decoding per sample, each with its own seed. More samples keep the seeds of the first ones."""
    return tuple(Decoding(SAMPLES.temperature, SAMPLES.top_p, derive("strategy", "sample", i)) for i in range(samples))


def unsupported_reason(strategy: Strategy, task: TaskTraits) -> str | None:
    """Return the reason why a strategy cannot choose among answers to a task, or None if it can."""
    chooser = CHOOSERS.get(strategy.kind)
    return chooser(SAMPLES).supports(task) if chooser else None


def apply_strategy(strategy: Strategy, model: SingleModel, task: TaskTraits) -> Artifact:
    """Return an artifact that answers with the model under a strategy. For pass@k that is the model itself."""
    chooser = CHOOSERS.get(strategy.kind)
    if chooser is None:
        return model
    return chooser.artifact(sample_decodings(strategy.k), chooser(SAMPLES).chosen_by(task), model, dict(model.report))
