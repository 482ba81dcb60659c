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
from bench.run.forecast import gate_forecast
from bench.run.plan import RunPlan
from bench.run.prepare import PreparedRun
from bench.run.progress import ProgressDisplay
from bench.run.timekeeper import MEASURED, Phase, Timekeeper
from bench.weights.points import Point
from methods.interface import Decoding
from tasks.interface import Example

WINDOW = 2.0
"""Seconds for which the speed is measured, at least. Over the fraction of a second that one batch of a small model
takes, repeated measurements on one machine differed seven times."""
GATE_USED = 0.5
"""Share of the gate's reserve that an estimate of the time expects to be used. The gate ends at the first look at which
its test decides."""


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
    display.watch(evaluator.meter, evaluations, flops)
    _forecast(run, seconds, attempt.engines.count or 1)
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
    """Say what the gate can detect, and show how long the run will take.

    Args:
        run: The run, after its calibration.
        seconds: Seconds of the calibration for each of its examples. A resumed run recalls them, and they took no time.
        engines: Number of engines.
    """
    prepared, plan, evaluator = run.prepared, run.plan, run.evaluator
    if not run.display.quiet:  # its power takes a second to compute, and so does the tokenizer
        for sentence in estimate(prepared.config, prepared.task_data).unreadable:
            run.display.note(sentence)
        run.display.say(gate_forecast(plan.gate))
    examples = min(CALIBRATION_EXAMPLES, len(prepared.task_data.splits.support))
    calibrated = min(engines, len(evaluator.cut(CALIBRATION_EXAMPLES)))  # engines that shared the calibration
    speed = seconds * calibrated / engines / run.evaluation_flops
    tested = len(prepared.task_data.splits.test[: prepared.config.limit])
    run.display.keep_time(
        Timekeeper(
            evaluator.meter,
            evaluator.journal,
            phases(run, tested),
            evaluator.meter.flops,
            {"answers": speed} if seconds * examples >= MEASURED else {},
            f"{sum(plan.planned.values()):,} evaluations planned, {tested:,} test items",
        )
    )


def phases(run: CalibratedRun, tested: int) -> list[Phase]:
    """Return the phases of a run, in FLOPs.

    Args:
        run: The run, after its calibration.
        tested: Number of test items.
    """
    plan, samples = run.plan, run.prepared.strategy.k if run.prepared.strategy else 1
    planned = {account: evaluations * run.evaluation_flops for account, evaluations in plan.planned.items()}
    answers = planned.get("sample", 0.0) + planned.get("select", 0.0)
    gate = GATE_USED * planned.get("gate", 0.0) if plan.gate.items else 0.0
    base = samples * tested * run.evaluation_flops
    passes = sum(plan.method.passes)
    return [
        Phase("tuning", ("tune",), planned.get("tune", 0.0)),
        Phase("training", ("train",), planned.get("train", 0.0)),
        Phase("answers", ("sample", "select"), answers),
        Phase("answers", ("gate",), gate, follows=True),
        Phase("answers", ("evaluation",), base, follows=True),
        Phase("answers", ("inference",), passes * base, follows=True, times=passes),
    ]
