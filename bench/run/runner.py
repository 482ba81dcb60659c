"""Execution of one run: calibrate, adapt, gate, test, record. A test of a finished artifact only tests and records.

All computed values go through the journal. A run that is killed and resumed therefore ends in the same result as an
uninterrupted one. The result file is written last.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.compute.meter import OverBudget
from bench.distributed import ProcessGroup
from bench.engines.interface import Engine
from bench.engines.placement import Engines
from bench.errors import BenchError, Refused
from bench.failures import located
from bench.records.digests import JOURNAL, SAMPLES
from bench.records.files import WriteFailed, file_digest, sweep, write_atomically
from bench.records.journal import Journal, JournalRemoved
from bench.records.rows import GateRecord, Row
from bench.records.schema import Result
from bench.run.attempt import ONE, Attempt, open_journal
from bench.run.calibration import CalibratedRun, begin
from bench.run.context import AdaptationContext
from bench.run.environment import holder
from bench.run.gate import Gate, draw_items
from bench.run.launch import launch_training
from bench.run.loading import placed
from bench.run.prepare import Prepared, PreparedRun
from bench.run.progress import ProgressDisplay
from bench.run.status import LOCK, reported
from bench.run.test_split import Deployed, TestSplit, deploy
from bench.run.trained import PreparedTest, run_test
from bench.run.trials import Trials
from bench.weights.noise import PLAIN
from methods.interface import Diverged, Method


class Held(Refused):
    """Another process is executing the run."""


def execute(
    prepared: Prepared,
    display: ProgressDisplay,
    engines: Engines = ONE,
    *,
    wrap_engine: Callable[[Engine], Engine] | None = None,
) -> Result:
    """Execute a run, or continue it where an earlier attempt stopped.

    If the run itself fails, the result has the status `failed` and the traceback. If the task, the method or the engine
    refuses it for a stated reason, the status is `refused`.

    Args:
        prepared: Run to execute.
        display: Progress display.
        engines: Number and location of the engines. The result depends on it only under a budget of device time.
        wrap_engine: Function that wraps the engine, for instrumentation; None for no wrapper.

    Raises:
        Held: If another process is executing this run.
        WriteFailed: If the record cannot be written.
        JournalRemoved: If the run's folder was removed or replaced meanwhile.
    """
    started = time.perf_counter()
    engines = placed(prepared, engines)
    with _locked(prepared.folder), display, display.observed(prepared.folder, prepared.id):
        sweep(prepared.folder)
        # Open to the end: the number of a closed file could be that of the file which replaced it.
        with (
            closing(open_journal(prepared, engines)) as journal,
            reported(prepared.folder, display, journal.check_in_place),
        ):
            return _executed(Attempt(prepared, display, journal, engines, wrap_engine), started)


def _executed(attempt: Attempt, started: float) -> Result:
    """Execute a run, and write its result file. See `execute`."""
    try:
        result = attempt.ended("ok", rows=_rows(attempt))
    except OverBudget as error:
        result = attempt.ended("over_budget", f"stopped at its budget: {error}")
    except Diverged as error:
        result = attempt.ended("diverged", str(error))
    except Refused as error:
        result = attempt.ended("refused", str(error))
    except WriteFailed:
        attempt.journal.check_in_place()  # a folder that was removed cannot be written either
        raise
    except (JournalRemoved, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, BenchError) else located(error)
        result = attempt.ended("failed", reason, traceback.format_exc())
    finally:
        attempt.close()
    return _recorded(attempt, result, started)


def _recorded(attempt: Attempt, result: Result, started: float) -> Result:
    """Write the result file. Return the result with its times and digests.

    Raises:
        WriteFailed: If the file cannot be written.
        JournalRemoved: If the run's folder was removed or replaced meanwhile. It then has no result file.
    """
    folder = attempt.prepared.folder
    try:
        attempt.journal.check_in_place()
        try:
            timing = attempt.timing(time.perf_counter() - started, file_digest(folder / JOURNAL))
            digest = file_digest(folder / SAMPLES) if result.rows else None
            result = result.model_copy(update={"timing": timing, "samples_sha256": digest})
            write_atomically(folder / "result.json", result.model_dump_json(indent=1) + "\n")
        finally:
            attempt.journal.check_in_place()  # if the folder was removed, that is the reason of any error
    except JournalRemoved:
        (folder / "result.json").unlink(missing_ok=True)  # it would stand for a complete run
        raise
    return result


def _rows(attempt: Attempt) -> tuple[Row, ...]:
    """Execute a run or a test, and return the rows of its result."""
    prepared = attempt.prepared
    if isinstance(prepared, PreparedTest):
        return run_test(attempt, prepared)
    assert isinstance(prepared, PreparedRun)
    return _Runner(attempt, begin(attempt, prepared)).run()


class _Runner:
    """Adapts a model by the run's method, gates the result, and tests it.

    Args:
        attempt: The attempt, which collects the fields of the result.
        run: The run, with its loaded model.
    """

    def __init__(self, attempt: Attempt, run: CalibratedRun) -> None:
        self.attempt, self.calibrated = attempt, run
        self.prepared, self.evaluator, self.meter = run.prepared, run.evaluator, run.evaluator.meter
        self.facts, self.display = attempt.facts, attempt.display

    def run(self) -> tuple[Row, ...]:
        """Execute the run, and return the rows of its result."""
        prepared, meter, facts = self.prepared, self.meter, self.facts
        method, context = self._tune() if self.calibrated.plan.rungs else (prepared.method, self.calibrated.context())
        if prepared.config.launch is not None:
            context.delegate_training = partial(self._launch_training, prepared.config.launch)
        limit = meter.limit
        assert limit is not None
        facts.report = context.report  # a reference: a run that ends early records what was reported so far
        if (drawn := method.config.drawn) is not None and drawn != PLAIN:
            layout = self.evaluator.engine.layout
            found = {"untouched": layout.untouched(drawn), "energy": layout.energy(drawn)}
            context.report["noise"] = drawn.described | found
        with closing(context):
            adapted = method.adapt(context)
        if meter.tripped or meter.flops(meter.ledger.adaptation()) > limit:
            raise OverBudget("the method continued after it was stopped, or bypassed the meter")
        deployed = deploy(adapted, prepared.config, prepared.strategy, prepared.task_data.traits)
        facts.untested = deployed.untested
        adaptation = self._spent_on_adaptation()
        decisions = self._gate(deployed)
        self._check_spent(adaptation)
        meter.limit = None  # adaptation has ended, and nothing below is billed to the budget
        evaluator = self.evaluator.for_task(prepared.task_data.task)
        test_split = TestSplit(evaluator, prepared.task_data, prepared.config, prepared.folder, self.display)
        rows = test_split.evaluate(deployed, decisions)
        self._check_spent(adaptation)
        facts.saved = test_split.saved
        return rows

    def _tune(self) -> tuple[Method, AdaptationContext]:
        """Run the trials. Return the method with the chosen settings, and its view of the final run."""
        prepared, run = self.prepared, self.calibrated
        trials = Trials(
            self.evaluator,
            prepared.task_data,
            prepared.method,
            prepared.config.seed,
            run.evaluation_flops,
            self.display,
        )
        method, self.facts.tuning = trials.choose(run.plan.rungs)
        context = run.context()
        context.report["tuning"] = {"trials": trials.reports}
        return method, context

    def _launch_training(self, launch: dict[str, Any]) -> None:
        with self.display.stage(f"training in {self.prepared.config.processes} processes"):
            launch_training(self.prepared.folder, launch)

    def _gate(self, deployed: Deployed) -> dict[str, GateRecord]:
        """Return the gate's decision about each artifact by label; empty without a gate."""
        prepared, gate = self.prepared, self.calibrated.plan.gate
        self.facts.ungated = gate.ungated
        if not gate.items:
            return {}
        assert self.meter.limit is not None
        reserved = self.calibrated.flops - self.meter.limit
        self.meter.limit = self.calibrated.flops
        examples = draw_items(prepared.task_data.splits.gate, gate.items, prepared.config.seed)
        decides = Gate(self.evaluator, examples, reserved, prepared.config.method, self.display)
        return decides.decide(deployed.base, deployed.changed)

    def _spent_on_adaptation(self) -> int:
        """Return the FLOPs billed to the budget, other than the gate's."""
        ledger = self.meter.ledger
        return self.meter.flops(ledger.adaptation()) - self.meter.flops(ledger["gate"])

    def _check_spent(self, adaptation: int) -> None:
        """Check what was billed since the method returned.

        Args:
            adaptation: FLOPs that were billed to the method until then.

        Raises:
            OverBudget: If more was billed to the method, or the budget is exceeded.
        """
        if self._spent_on_adaptation() != adaptation:
            raise OverBudget("the method or its artifact spent from the budget after `adapt` had returned")
        if self.meter.spent > self.calibrated.flops:
            raise OverBudget("adaptation and gate together spent more than the budget")


def train_as_worker(prepared: PreparedRun, ranks: ProcessGroup) -> None:
    """Train a run as one worker of the group: replay the journal, train on, then exit the process.

    Raises:
        Diverged: If training diverged.
    """
    journal = Journal(prepared.folder / "journal.jsonl", owner=ranks.main)
    context = begin(Attempt(prepared, ProgressDisplay(quiet=True), journal), prepared).context()
    ranks.gather(None)  # barrier: every process must have read the journal before rank 0 appends to it
    context.ranks = ranks
    prepared.method.adapt(context)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        which = holder(folder / "attempts")
        raise Held(f"{folder}: {which} is executing this run; wait for it, or stop it") from error
    except OSError as error:
        raise WriteFailed(folder, error) from error
    try:
        yield
    finally:
        lock.release()
