"""pass@k of one model on the test split, from more samples than k, each judged like any answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from bench.compute.ledger import Account, Work
from bench.errors import BenchError
from bench.records.schema import AnswerCost, Coverage, Difference
from bench.run.context import DeploymentContext
from bench.run.evaluator import Evaluator
from bench.run.sampling import sample_decodings
from bench.stats import coverage_over_items, mean_difference, pass_at_k
from methods.interface import SingleModel
from methods.voting import ask_once
from tasks.interface import Example, Score

SAMPLES_PER_ANSWER = 2
"""Samples drawn, divided by k. At 1 an item's estimate is 0 or 1; each further sample makes it less noisy."""


def coverages(
    evaluator: Evaluator,
    deployed: DeploymentContext,
    examples: Sequence[Example],
    models: Mapping[str, SingleModel],
    k: int,
    answer_cost: Callable[[Work, int], AnswerCost],
) -> tuple[Coverage, dict[str, Coverage]]:
    """Measure pass@k of the base and of models by label; samples are booked where answers are.

    Args:
        evaluator: Judges the answers.
        deployed: Answers.
        examples: The test examples.
        models: Artifacts.
        k: Answers.
        answer_cost: Returns what one of so many answers costs, given their work.
    """

    def measured(account: Account, model: SingleModel) -> tuple[NDArray[np.float64], AnswerCost]:
        deployed.account, before = account, evaluator.meter.ledger[account]
        estimates = estimate(_sample(evaluator, deployed, examples, model, k), k)
        # Of all samples the k-th part of those of an example: what k answers cost.
        cost = answer_cost(evaluator.meter.ledger[account] - before, SAMPLES_PER_ANSWER * len(examples))
        return estimates, cost

    base, base_cost = measured("evaluation", SingleModel())
    rows = {}
    for label, model in models.items():
        now, cost = measured("inference", model)
        rows[label] = summarise(now, base, k, cost)
    return summarise(base, None, k, base_cost), rows


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
    """Return each example's pass@k from scores [samples, examples]; NaN where fewer than k answers could be judged."""
    counted = np.array([[score.status != "infrastructure" for score in row] for row in judged])
    right = np.array([[score.correct for score in row] for row in judged]) & counted
    return pass_at_k(counted.sum(axis=0), right.sum(axis=0), k)


def summarise(now: NDArray[np.float64], base: NDArray[np.float64] | None, k: int, cost: AnswerCost) -> Coverage:
    """Return pass@k over the examples estimated for both, with what it changed against the base.

    Args:
        now: Estimates, example by example.
        base: The base's; None for the base itself.
        k: Answers.
        cost: Of k answers.

    Raises:
        BenchError: If there are no such examples.
    """
    usable = ~np.isnan(now) & (True if base is None else ~np.isnan(base))
    if not usable.any():
        raise BenchError(f"of no test example could {k} answers be judged; see `bench doctor`")
    mean = coverage_over_items(now[usable], SAMPLES_PER_ANSWER)
    difference = None
    if base is not None:
        found = mean_difference(now[usable] - base[usable])
        fields = asdict(found)
        difference = Difference(items=int(usable.sum()), difference=fields.pop("value"), **fields)
    return Coverage(
        k=k,
        samples=SAMPLES_PER_ANSWER * k,
        items=int(usable.sum()),
        excluded=int((~usable).sum()),
        value=mean.value,
        low=mean.low,
        high=mean.high,
        cost=cost,
        difference=difference,
    )
