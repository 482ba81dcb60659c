"""pass@k of single models on the test split, estimated from more than k scored samples per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import Account, Work
from bench.compute.profile import ComputeProfile
from bench.errors import BenchError
from bench.records.pricing import answer_cost
from bench.records.rows import Difference, PassAtK
from bench.run.context import DeploymentContext
from bench.run.evaluator import Evaluator
from bench.run.sampling import sample_decodings
from bench.stats import coverage_over_items, mean_difference, pass_at_k
from methods.interface import SingleModel
from methods.voting import ask_once
from tasks.interface import Example, Score

SAMPLES_PER_ANSWER = 2
"""Number of samples per example, divided by k. At 1 an item's estimate is 0 or 1; more samples reduce its variance."""


def coverages(
    evaluator: Evaluator,
    deployed: DeploymentContext,
    examples: Sequence[Example],
    models: Sequence[SingleModel],
    ks: Sequence[int],
) -> list[list[PassAtK]]:
    """Measure pass@k of the base and of each model. Samples are booked to the same accounts as answers.

    All k share the samples of the largest.

    Args:
        evaluator: Evaluator that scores the samples.
        deployed: Context that generates the samples.
        examples: Test examples.
        models: Artifacts.
        ks: Numbers of answers, ascending.

    Returns:
        pass@k of the base for each k, then of each model.
    """

    def measured(account: Account, model: SingleModel) -> tuple[list[NDArray[np.float64]], Work]:
        deployed.account, before = account, evaluator.meter.ledger[account]
        judged = _sample(evaluator, deployed, examples, model, max(ks))
        return [estimate(judged, k) for k in ks], evaluator.meter.ledger[account] - before

    profile, samples = evaluator.meter.profile, SAMPLES_PER_ANSWER * max(ks)
    base, work = measured("evaluation", SingleModel())
    found = [[summarise(now, None, k, work, profile, samples) for now, k in zip(base, ks, strict=True)]]
    for model in models:
        estimates, work = measured("inference", model)
        pairs = zip(estimates, base, ks, strict=True)
        found.append([summarise(now, before, k, work, profile, samples) for now, before, k in pairs])
    return found


def _sample(
    evaluator: Evaluator, deployed: DeploymentContext, examples: Sequence[Example], model: SingleModel, k: int
) -> list[list[Score]]:
    by_id = {example.id: example for example in examples}
    ids, drawn = list(by_id), sample_decodings(SAMPLES_PER_ANSWER * k)
    deployed.prepare([model.point], ids, drawn, model.prompt)
    answers = [deployed.answer(model.point, ids, decoding, model.prompt) for decoding in drawn]

    def judge(asked: Sequence[str], texts: Sequence[str]) -> list[Score]:
        return evaluator.judge([by_id[i] for i in asked], texts, "samples")

    return ask_once(judge, ids, answers)


def estimate(judged: Sequence[Sequence[Score]], k: int) -> NDArray[np.float64]:
    """Return each example's pass@k from scores [samples, examples]; NaN if fewer than k samples could be judged."""
    counted = np.array([[score.status != "infrastructure" for score in row] for row in judged])
    right = np.array([[score.correct for score in row] for row in judged]) & counted
    return pass_at_k(counted.sum(axis=0), right.sum(axis=0), k)


def summarise(
    now: NDArray[np.float64],
    base: NDArray[np.float64] | None,
    k: int,
    work: Work,
    profile: ComputeProfile,
    samples: int,
) -> PassAtK:
    """Return mean pass@k over the examples with an estimate, and its difference from the base.

    Args:
        now: Estimate per example, shape [examples]; NaN where there is none.
        base: Estimates of the base, shape [examples]; None for the base itself.
        k: Number of answers.
        work: Work of all samples.
        profile: Compute profile of the model.
        samples: Number of samples per example.

    Raises:
        BenchError: If no example has an estimate for both.
    """
    usable = ~np.isnan(now) & (True if base is None else ~np.isnan(base))
    if not usable.any():
        raise BenchError(f"no test example has {k} answers that could be judged; see `bench doctor`")
    mean = coverage_over_items(now[usable], samples / k)
    difference = None
    if base is not None:
        found = mean_difference(now[usable] - base[usable])
        fields = asdict(found)
        difference = Difference(items=int(usable.sum()), difference=fields.pop("value"), **fields)
    return PassAtK(
        k=k,
        samples=samples,
        items=int(usable.sum()),
        excluded=int((~usable).sum()),
        value=mean.value,
        low=mean.low,
        high=mean.high,
        # The work is that of all samples, and this is the cost of k of them.
        cost=answer_cost(profile, work, samples / k * len(now)),
        work=work,
        difference=difference,
    )
