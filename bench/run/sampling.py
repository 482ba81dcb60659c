"""Test-time strategies: what several sampled answers of one model come to.

A strategy belongs to the test and not to a method: base and artifacts are asked alike, with the same random streams in
every run, so that the base's answers do not depend on what was run. How answers are chosen is what the controls
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
"""Where the temperature comes from."""
CHOOSERS: dict[str, type[SamplingMethod]] = {"maj": SelfConsistency, "bon": BestOfN}


def sample_decodings(samples: int) -> tuple[Decoding, ...]:
    """Return a random stream for each sample; the first are the same however many there are."""
    return tuple(Decoding(SAMPLES.temperature, SAMPLES.top_p, derive("strategy", "sample", i)) for i in range(samples))


def unsupported_reason(strategy: Strategy, task: TaskTraits) -> str | None:
    """Return why nothing can choose among answers to a task, or None if something can or need not."""
    chooser = CHOOSERS.get(strategy.kind)
    return chooser(SAMPLES).supports(task) if chooser else None


def apply_strategy(strategy: Strategy, model: SingleModel, task: TaskTraits) -> Artifact:
    """Return what answers with a model under a strategy; for pass@k, which chooses nothing, the model itself."""
    chooser = CHOOSERS.get(strategy.kind)
    if chooser is None:
        return model
    return chooser.artifact(sample_decodings(strategy.k), chooser(SAMPLES).chosen_by(task), model, dict(model.report))
