"""Execution of one run: calibrate, adapt, gate, test, record. A test of a finished artifact only tests and records.

All computed values go through the journal. A run that is killed and resumed therefore ends in the same result as an
uninterrupted one. The result file is written last.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.compute.ledger import Account
from bench.compute.meter import Meter, OverBudget
from bench.distributed import ProcessGroup
from bench.engines.interface import Engine
from bench.engines.placement import Engines
from bench.errors import BenchError, Refused, UsageError
from bench.records.config import read_config
from bench.records.digests import JOURNAL, SAMPLES
from bench.records.files import WriteFailed, file_digest, sweep, write_atomically
from bench.records.journal import Journal, read_entries
from bench.records.migrations import OLDEST, SCHEMA_VERSION
from bench.records.pricing import priced_account
from bench.records.rows import GateRecord, Row
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Processor, Result, Status, Timing
from bench.records.source import Artifacts
from bench.records.tuning import Tuning
from bench.run.context import AdaptationContext
from bench.run.environment import processor, write_attempt
from bench.run.evaluator import Evaluator
from bench.run.gate_looks import Gate, draw_items
from bench.run.launch import launch_training
from bench.run.loading import load_engine, placed
from bench.run.prepare import Prepared, PreparedRun, admit
from bench.run.progress import ProgressDisplay
from bench.run.run_id import IDENTITY_VERSION
from bench.run.test_split import Deployed, TestSplit, deploy
from bench.run.timing import Clock
from bench.run.trained import PreparedTest, check_prompts
from bench.run.trials import Trials
from methods.interface import Diverged, Method
from tasks.interface import PromptStyle, Task

CALIBRATION_EXAMPLES = 16
ONE = Engines()


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
        engines: Number and location of the engines. The result does not depend on it.
        wrap_engine: Function that wraps the engine, for instrumentation; None for no wrapper.

    Raises:
        Refused: If another process is executing this run.
        WriteFailed: If the record cannot be written.
    """
    started = time.perf_counter()
    engines = placed(prepared, engines)
    with _locked(prepared.folder), display:
        sweep(prepared.folder)
        attempt = _Runner(prepared, display, _open_journal(prepared, engines), engines, wrap_engine)
        try:
            result = attempt.run()
        except OverBudget as error:
            result = attempt.ended("over_budget", f"stopped at its budget: {error}")
        except Diverged as error:
            result = attempt.ended("diverged", str(error))
        except Refused as error:
            result = attempt.ended("refused", str(error))
        except (WriteFailed, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
            result = attempt.ended("failed", reason, traceback.format_exc())
        finally:
            attempt.close()
        timing = attempt.timing(time.perf_counter() - started, file_digest(prepared.folder / JOURNAL))
        digest = file_digest(prepared.folder / SAMPLES) if result.rows else None
        result = result.model_copy(update={"timing": timing, "samples_sha256": digest})
        write_atomically(prepared.folder / "result.json", result.model_dump_json(indent=1) + "\n")
    return result


def train_as_worker(prepared: PreparedRun, ranks: ProcessGroup) -> None:
    """Train a run as one worker of the group: replay the journal, train on, then exit the process.

    Raises:
        Diverged: If training diverged.
    """
    attempt = _Runner(
        prepared, ProgressDisplay(quiet=True), Journal(prepared.folder / "journal.jsonl", owner=ranks.main)
    )
    context = attempt.begin()
    ranks.gather(None)  # barrier: every process must have read the journal before rank 0 appends to it
    context.ranks = ranks
    prepared.method.adapt(context)


def _open_journal(prepared: Prepared, engines: Engines) -> Journal:
    """Open the run's journal, and write its config.json and an attempts file."""
    path = prepared.folder / "config.json"
    if path.exists():
        stored = read_config(path.parent)
        # These may differ: the run id covers the content of paths, and the sandbox is checked again.
        paths = {"data", "adapt_data", "model", "launch", "allow_unsandboxed"}
        if stored.model_dump(exclude=paths) != prepared.config.model_dump(exclude=paths):
            raise UsageError(
                f"{path} was changed since the run began and no longer describes it; restore it, or start a new run"
            )
    check_schema(prepared.folder / "journal.jsonl")
    journal = Journal(prepared.folder / "journal.jsonl")
    write_atomically(path, prepared.config.model_dump_json(indent=1) + "\n")
    write_attempt(prepared.folder / "attempts", prepared.config, engines)
    return journal


def check_schema(journal: Path) -> None:
    """Check that a run was begun under the present schema.

    Raises:
        Refused: If it was begun under another, whose journal lacks values that this one records.
    """
    for entry in read_entries(journal)[0][:1]:
        if (begun := entry.get("key", {}).get("schema", OLDEST)) != SCHEMA_VERSION:
            raise Refused(
                f"{journal.parent}: this run was begun under record schema {begun}, and its journal lacks values that "
                f"schema {SCHEMA_VERSION} records, so it cannot be resumed; start it again in another --output"
            )


@dataclass
class _Facts:
    """Fields of the result that become known while the run proceeds. See `bench.records.schema.Result`."""

    model: ModelInfo | None = None
    engine: dict[str, str | int] = field(default_factory=dict)
    processor: Processor | None = None
    prompt: PromptStyle | None = None
    sandbox: str | None = None
    untested: dict[str, str] = field(default_factory=dict)
    ungated: str | None = None
    saved: Artifacts | None = None
    report: dict[str, Any] = field(default_factory=dict)
    tuning: Tuning | None = None


class _Runner:
    """One attempt at a run. Loads the engine and collects the fields of the result."""

    def __init__(
        self,
        prepared: Prepared,
        display: ProgressDisplay,
        journal: Journal,
        engines: Engines = ONE,
        wrap_engine: Callable[[Engine], Engine] | None = None,
    ) -> None:
        self.prepared, self.display, self.journal, self.engines = prepared, display, journal, engines
        self.wrap_engine = wrap_engine
        self.opened = ExitStack()
        self.opened.callback(self.journal.close)
        self.clock = Clock()
        self.meter: Meter | None = None
        self.budget: BudgetInfo | None = None
        self.carried: dict[Account, AccountRow] = {}
        self.facts = _Facts()

    def close(self) -> None:
        self.opened.close()

    def _load(self, task: Task) -> None:
        """Load the engine, and make the evaluator of a task.

        Raises:
            Refused: If the run cannot be done for a stated reason.
        """
        prepared = self.prepared
        if prepared.refusal is not None:
            raise Refused(prepared.refusal)
        levels = [admit(task, allow_unsandboxed=prepared.config.allow_unsandboxed) for task in prepared.task_data.tasks]
        sandbox = next(filter(None, levels), None)
        with self.clock.span("loading"):
            engine = load_engine(prepared, self.engines, self.display, self.opened)
            engine = engine if self.wrap_engine is None else self.wrap_engine(engine)
        self.meter = Meter(engine.shape)
        style: PromptStyle = engine.style if prepared.config.prompt == "auto" else prepared.config.prompt
        prepared.task_data.check_conversations(style, engine.encode)
        provenance = prepared.model.provenance
        self.facts.model = ModelInfo(
            name=prepared.source.label,
            origin=provenance.origin,
            fingerprint=provenance.sha256,
            digest=engine.digest,
            licence=provenance.licence,
            shape=engine.shape,
        )
        self.facts.engine, self.facts.prompt, self.facts.sandbox = engine.settings, style, sandbox
        self.facts.processor = processor(prepared.config.device)
        # The first journal entry. It detects a resume with another engine or library before their answers mix.
        opening = {"engine": engine.settings, "weights": engine.digest, "prompt": style, "schema": SCHEMA_VERSION}
        opening |= {"libraries": {name: version(name) for name in ("torch", "transformers")}}
        if self.journal.recall(opening) is None:
            self.journal.append(opening, {})
        if self.journal.recovered > 1:
            self.display.say(f"resuming: {self.journal.recovered} journal entries will not be computed again")

        data = prepared.task_data
        self.evaluator = Evaluator(
            engine, task, style, self.meter, self.journal, self.clock, data.prompting, data.reward
        )

    def begin(self) -> AdaptationContext:
        """Load the engine, calibrate the cost of one evaluation, plan, and set the budget.

        Raises:
            Refused: If the run cannot be done for a stated reason.
        """
        prepared = self._run
        self._load(prepared.task_data.adapted_on)
        assert self.meter is not None
        with self.display.stage("calibration"):
            examples = prepared.task_data.splits.support[:CALIBRATION_EXAMPLES]
            evaluation_flops, seconds = self.evaluator.calibrate(examples)
            flops, evaluations = self._size(evaluation_flops)
        self.planned = prepared.plan(evaluations)
        self.budget = BudgetInfo(
            name=prepared.config.budget,
            evaluations=evaluations,
            evaluation_flops=evaluation_flops,
            flops=flops,
            planned={str(account): amount for account, amount in self.planned.planned.items()},
            spent=0,
        )
        self.meter.limit = int(self.planned.evaluations * evaluation_flops)  # the gate's part is not the method's
        if self.journal.recovered <= 1:  # a resumed run recalls its calibration, and has part of the work behind it
            self.display.say(self._estimate(seconds))
        self.display.watch(self.meter, self.planned.evaluations)
        return self._context(evaluation_flops)

    @property
    def _run(self) -> PreparedRun:
        assert isinstance(self.prepared, PreparedRun)
        return self.prepared

    def _size(self, evaluation_flops: float) -> tuple[int, int]:
        """Return the budget in FLOPs and in evaluations.

        Raises:
            Refused: If it does not pay for one evaluation.
        """
        budget = self._run.budget
        assert self.meter is not None
        if budget.unit == "evaluations":
            return int(budget.amount * evaluation_flops), budget.amount
        flops = budget.amount
        if budget.unit == "seconds":
            # The calibration was the first work of this process, so it says little of the speed. Its examples fill a
            # batch here, each time in another order, as engines answer equal jobs only once.
            examples = self._run.task_data.splits.support[:CALIBRATION_EXAMPLES]
            repeats = max(1, self.evaluator.batch_size // len(examples))
            work, seconds = self.evaluator.timed([e for i in range(repeats) for e in examples[i:] + examples[:i]])
            flops = int(budget.amount * self.meter.flops(work) / seconds)
            self.display.say(f"{budget.text} of device time are {flops:.4g} FLOPs at the measured speed")
        if flops < evaluation_flops:
            raise Refused(
                f"--budget {self._run.config.budget}: {flops:.3g} FLOPs, and one evaluation of the base on this task "
                f"costs {evaluation_flops:.3g}; give a larger budget"
            )
        return flops, int(flops / evaluation_flops)

    def _context(self, evaluation_flops: float) -> AdaptationContext:
        prepared = self.prepared
        return AdaptationContext(
            self.evaluator, prepared.task_data, prepared.config.seed, evaluation_flops, self.display
        )

    def run(self) -> Result:
        """Execute the run, or the test."""
        if isinstance(self.prepared, PreparedTest):
            return self._test(self.prepared)
        prepared, context = self._run, self.begin()
        method = prepared.method
        if self.planned.rungs:
            method, context = self._tune(context.evaluation_flops)
        if prepared.config.launch is not None:
            context.delegate_training = partial(self._launch_training, prepared.config.launch)
        assert self.meter is not None
        limit = self.meter.limit
        assert limit is not None
        self.facts.report = context.report  # a reference: a run that ends early records what was reported so far
        with closing(context):
            adapted = method.adapt(context)
        if self.meter.tripped or self.meter.flops(self.meter.ledger.adaptation()) > limit:
            raise OverBudget("the method continued after it was stopped, or bypassed the meter")
        deployed = deploy(adapted, prepared.config, prepared.strategy, prepared.task_data.traits)
        self.facts.untested = deployed.untested
        adaptation = self._spent_on_adaptation()
        decisions = self._gate(deployed)
        self._check_spent(adaptation)
        self.meter.limit = None  # adaptation has ended, and nothing below is billed to the budget
        evaluator = self.evaluator.for_task(prepared.task_data.task)
        test_split = TestSplit(evaluator, prepared.task_data, prepared.config, prepared.folder, self.display)
        rows = test_split.evaluate(deployed, decisions)
        self._check_spent(adaptation)
        self.facts.saved = test_split.saved
        return self.ended("ok", rows=rows)

    def _test(self, prepared: PreparedTest) -> Result:
        """Test artifacts that were made before. What their adaptation cost is carried over."""
        trained = prepared.trained
        self.budget, self.carried, self.facts.ungated = trained.budget, trained.ledger, trained.ungated
        self._load(prepared.task_data.task)
        assert self.facts.model is not None
        with self.display.stage("loading the artifact"), self.clock.span("loading"):
            artifacts = trained.load(self.facts.model.digest, prepared.folder)
            check_prompts(artifacts, prepared.task_data.task)
        deployed = deploy(artifacts, prepared.config, prepared.strategy, prepared.task_data.traits)
        self.facts.untested = deployed.untested
        test_split = TestSplit(self.evaluator, prepared.task_data, prepared.config, prepared.folder, self.display)
        return self.ended("ok", rows=trained.moved(test_split.evaluate(deployed, trained.decisions)))

    def _spent_on_adaptation(self) -> int:
        """Return the FLOPs billed to the budget, other than the gate's."""
        assert self.meter is not None
        ledger = self.meter.ledger
        return self.meter.flops(ledger.adaptation()) - self.meter.flops(ledger["gate"])

    def _check_spent(self, adaptation: int) -> None:
        """Check what was billed since the method returned.

        Args:
            adaptation: FLOPs that were billed to the method until then.

        Raises:
            OverBudget: If more was billed to the method, or the budget is exceeded.
        """
        assert self.meter is not None
        assert self.budget is not None
        if self._spent_on_adaptation() != adaptation:
            raise OverBudget("the method or its artifact spent from the budget after `adapt` had returned")
        if self.meter.spent > self.budget.flops:
            raise OverBudget("adaptation and gate together spent more than the budget")

    def _tune(self, evaluation_flops: float) -> tuple[Method, AdaptationContext]:
        """Run the trials. Return the method with the chosen settings, and its view of the final run."""
        prepared = self._run
        trials = Trials(
            self.evaluator,
            prepared.task_data,
            prepared.method,
            prepared.config.seed,
            evaluation_flops,
            self.display,
        )
        method, self.facts.tuning = trials.choose(self.planned.rungs)
        context = self._context(evaluation_flops)
        context.report["tuning"] = {"trials": trials.reports}
        return method, context

    def _gate(self, deployed: Deployed) -> dict[str, GateRecord]:
        """Return the gate's decision about each artifact by label; empty without a gate."""
        prepared, gate = self.prepared, self.planned.gate
        self.facts.ungated = gate.ungated
        if not gate.items:
            return {}
        assert self.meter is not None
        assert self.budget is not None
        assert self.meter.limit is not None
        reserved = self.budget.flops - self.meter.limit
        self.meter.limit = self.budget.flops
        examples = draw_items(prepared.task_data.splits.gate, gate.items, prepared.config.seed)
        decides = Gate(self.evaluator, examples, reserved, prepared.config.method, self.display)
        return decides.decide(deployed.base, deployed.changed)

    def _launch_training(self, launch: dict[str, Any]) -> None:
        with self.display.stage(f"training in {self.prepared.config.processes} processes"):
            launch_training(self.prepared.folder, launch)

    def timing(self, total: float, journal: str) -> Timing:
        """Return the wall-clock times of this attempt and what it generated."""
        work = self.clock.work
        return Timing(
            total=total,
            stages=self.display.seconds,
            kinds=dict(self.clock.seconds),
            accounts=dict(self.clock.accounts),
            new_tokens=work.decode_tokens,
            generation_flops=self.meter.flops(work) if self.meter else 0,
            generation_work=work,
            journal=journal,
        )

    def _estimate(self, seconds: float) -> str:
        """Say how long the run will take, given the seconds of the calibration for each of its examples."""
        prepared = self.prepared
        tested = len(prepared.task_data.splits.test[: prepared.config.limit])
        planned = sum(self.planned.planned.values())
        engines = self.engines.count or 1
        calibrated = min(engines, len(self.evaluator.cut(CALIBRATION_EXAMPLES)))  # engines that shared the calibration
        total = seconds * (planned + 2 * tested) * calibrated / engines  # base and result answer the test split
        minutes = f"{total / 60:.0f} minutes" if total >= 120 else f"{total:.0f} seconds"
        return f"about {minutes}: {planned} evaluations planned, {tested} test items, {seconds:.2g} s each"

    def ended(
        self, status: Status, reason: str | None = None, trace: str | None = None, rows: tuple[Row, ...] = ()
    ) -> Result:
        """Return the result with all fields known so far."""
        prepared, facts, ledger, budget = self.prepared, self.facts, dict(self.carried), self.budget
        if self.meter is not None:
            accounts = self.meter.ledger.accounts()
            ledger |= {name: priced_account(self.meter.shape, work) for name, work in accounts.items()}
            budget = budget and budget.model_copy(update={"spent": budget.spent + self.meter.spent})
        return Result(
            identity_version=IDENTITY_VERSION,
            id=prepared.id,
            status=status,
            reason=reason,
            traceback=trace,
            config=prepared.config,
            ruleset=prepared.ruleset,
            versions=prepared.versions,
            content_hash=prepared.task_data.splits.content_hash,
            splits=prepared.task_data.splits.sizes,
            duplicates=prepared.task_data.duplicates,
            model=facts.model,
            engine=facts.engine,
            processor=facts.processor,
            prompt=facts.prompt,
            sandbox=facts.sandbox,
            budget=budget,
            rows=rows,
            untested=facts.untested,
            ungated=facts.ungated,
            ledger=ledger,
            saved=facts.saved,
            report=facts.report,
            tuning=facts.tuning,
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise Refused(f"{folder}: another process is executing this run; wait for it, or stop it") from error
    except OSError as error:
        raise WriteFailed(folder, error) from error
    try:
        yield
    finally:
        lock.release()
