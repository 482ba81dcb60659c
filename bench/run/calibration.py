"""Beginning of a run: load the model, calibrate the cost of one evaluation, set the budget, and plan."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

from bench.compute.ledger import Work
from bench.errors import Refused
from bench.records.entries import Timed, shape
from bench.records.pricing import evaluation_cost
from bench.records.schema import BudgetInfo
from bench.run.attempt import Attempt
from bench.run.chunks import Chunk
from bench.run.context import AdaptationContext
from bench.run.estimate import CALIBRATION_EXAMPLES, estimate
from bench.run.evaluator import Evaluator, sparse
from bench.run.forecast import TimeForecast, gate_forecast
from bench.run.plan import RunPlan
from bench.run.prepare import PreparedRun
from bench.run.progress import ProgressDisplay
from bench.weights.points import Point
from methods.interface import Decoding
from tasks.interface import Example

WINDOW = 2.0
"""Seconds for which the speed is measured, at least. Over the fraction of a second that one batch of a small model
takes, repeated measurements on one machine differed seven times."""


@dataclass(frozen=True)
class CalibratedRun:
    """A run with its loaded model, its budget and its plan.

    Attributes:
        prepared: The run.
        evaluator: Evaluator for the task that the run adapts on.
        evaluation_flops: Model FLOPs of one evaluation.
        flops: Budget of the run in FLOPs. The meter's limit is lower by what is reserved for the gate.
        plan: Plan of the run.
        display: Progress display.
    """

    prepared: PreparedRun
    evaluator: Evaluator
    evaluation_flops: float
    flops: int
    plan: RunPlan
    display: ProgressDisplay

    def context(self) -> AdaptationContext:
        """Return a new view of the run for its method."""
        prepared = self.prepared
        return AdaptationContext(
            self.evaluator, prepared.task_data, prepared.config.seed, self.evaluation_flops, self.display
        )


def begin(attempt: Attempt, prepared: PreparedRun) -> CalibratedRun:
    """Load the model, calibrate the cost of one evaluation, plan, and set the budget.

    Raises:
        Refused: If the run cannot be done for a stated reason.
    """
    display = attempt.display
    evaluator = attempt.load(prepared.task_data.adapted_on)
    with display.stage("calibration"):
        examples = prepared.task_data.splits.support[:CALIBRATION_EXAMPLES]
        evaluation_flops, seconds = calibrate(evaluator, examples)
        flops, evaluations = _size(prepared, evaluator, evaluation_flops, attempt.engines.count or 1, display)
    plan = prepared.plan(evaluations)
    attempt.facts.budget = BudgetInfo(
        name=prepared.config.budget,
        evaluations=evaluations,
        evaluation_flops=evaluation_flops,
        flops=flops,
        planned=plan.planned,
        spent=0,
    )
    evaluator.meter.limit = int(plan.evaluations * evaluation_flops)  # the gate's part is not the method's
    run = CalibratedRun(prepared, evaluator, evaluation_flops, flops, plan, display)
    if attempt.journal.recovered <= 1:  # a resumed run recalls its calibration, and has part of the work behind it
        _forecast(run, seconds, attempt.engines.count or 1)
    display.watch(evaluator.meter, evaluations, flops)
    return run


def calibrate(evaluator: Evaluator, examples: Sequence[Example]) -> tuple[float, float]:
    """Return the mean model FLOPs and seconds for the base model to answer one example, booked to `setup`."""
    meter = evaluator.meter
    before = meter.ledger["setup"]
    started = time.perf_counter()
    cut = evaluator.cut(len(examples))
    parts = {f"calibration+{part.start}": examples[part.start : part.stop] for part in cut}
    evaluator.announce([evaluator.answer_chunk(Point(), some, label) for label, some in parts.items()])
    for label, some in parts.items():
        evaluator.generate(Point(), some, "setup", label)
    seconds = time.perf_counter() - started
    work = meter.ledger["setup"] - before
    return evaluation_cost(meter.profile, work), seconds / len(examples)


def _size(
    prepared: PreparedRun, evaluator: Evaluator, evaluation_flops: float, engines: int, display: ProgressDisplay
) -> tuple[int, int]:
    """Return the budget in FLOPs and in evaluations. Only a budget of device time depends on the number of engines.

    Raises:
        Refused: If it does not pay for one evaluation.
    """
    budget = prepared.budget
    if budget.unit == "evaluations":
        return int(budget.amount * evaluation_flops), budget.amount
    flops = budget.amount
    if budget.unit == "seconds":
        work, seconds = timed(evaluator, prepared.task_data.splits.support[:CALIBRATION_EXAMPLES], engines)
        flops = int(budget.amount * evaluator.meter.flops(work) / seconds)
        display.say(f"{budget.text} of device time are {flops:.4g} FLOPs at the measured speed")
    if flops < evaluation_flops:
        raise Refused(
            f"--budget {prepared.config.budget}: {flops:.3g} FLOPs, and one evaluation of the base on this task "
            f"costs {evaluation_flops:.3g}; give a larger budget"
        )
    return flops, int(flops / evaluation_flops)


def timed(evaluator: Evaluator, examples: Sequence[Example], engines: int) -> tuple[Work, float]:
    """Return the work of the base's answers while all engines were busy, and the seconds that they took for it.

    Every engine answers full batches, in rounds, for at least `WINDOW` seconds. A first round warms the engines up and
    is not timed: the calibration was the first work of this process, so it says little of the speed. All work is booked
    to `setup`. Work and seconds are journalled together, so a resumed run has those of the first attempt.

    Args:
        evaluator: Evaluator of the run.
        examples: Examples to answer, repeated as often as they fit into a batch.
        engines: Number of engines.
    """
    meter, journal = evaluator.meter, evaluator.journal
    # All examples equally often, so that the mean cost of an evaluation on `setup` stays that of the calibration.
    batch = [*examples] * max(1, evaluator.batch_size // len(examples))
    key = {"timed": len(batch), "window": WINDOW}
    entry = journal.recall(key, shape(Timed))
    if entry is None:
        attempt = uuid.uuid4().hex  # answers that an interrupted attempt prefetched would take no time
        # Engines answer equal jobs only once. Greedy decoding ignores the seed, which makes each job another one.
        jobs = (
            evaluator.answer_chunk(Point(), batch, f"timed {attempt} {number}", Decoding(seed=number))
            for number in count()
        )
        with meter.account("setup"):
            _answer(evaluator, list(islice(jobs, engines)))
            warm_up = meter.opened
            started = time.perf_counter()
            while (seconds := time.perf_counter() - started) < WINDOW:
                _answer(evaluator, list(islice(jobs, engines)))
            work = meter.opened - warm_up
        entry = {"work": sparse(work), "warm_up": sparse(warm_up), "seconds": seconds}
        journal.append(key, entry)
    else:
        meter.replay("setup", Work(**entry["work"]) + Work(**entry["warm_up"]))
    return Work(**entry["work"]), float(entry["seconds"])


def _answer(evaluator: Evaluator, chunks: Sequence[Chunk]) -> None:
    evaluator.announce(chunks)
    for chunk in chunks:
        evaluator.run_chunk(Point(), chunk)


def _forecast(run: CalibratedRun, seconds: float, engines: int) -> None:
    """Say what the gate can detect, and how long the run will take.

    Args:
        run: The run, after its calibration.
        seconds: Seconds of the calibration for each of its examples.
        engines: Number of engines.
    """
    prepared, plan = run.prepared, run.plan
    if not run.display.quiet:  # its power takes a second to compute, and so does the tokenizer
        for sentence in estimate(prepared.config, prepared.task_data).unreadable:
            run.display.note(sentence)
        run.display.say(gate_forecast(plan.gate))
    tested = len(prepared.task_data.splits.test[: prepared.config.limit])
    planned = sum(plan.planned.values())
    samples = prepared.strategy.k if prepared.strategy else 1
    answers = samples * tested * (1 + sum(plan.method.passes))  # base and results answer the test split
    forecast = TimeForecast(
        run.evaluator.meter,
        run.display,
        f"{planned:,} evaluations planned, {tested:,} test items",
        (planned + answers) * run.evaluation_flops,
    )
    calibrated = min(engines, len(run.evaluator.cut(CALIBRATION_EXAMPLES)))  # engines that shared the calibration
    examples = min(CALIBRATION_EXAMPLES, len(prepared.task_data.splits.support))
    forecast.measured(seconds * examples, run.evaluation_flops * examples * engines / calibrated)
