"""Execution of one run: calibrate, adapt, test, record.

All computed values go through the journal. A run that is killed and resumed therefore ends in the same result as an
uninterrupted one. The result file is written last.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.compute.flops import ModelShape
from bench.compute.meter import Meter, OverBudget
from bench.distributed import ProcessGroup
from bench.engines.interface import Engine
from bench.engines.placement import Engines, cores
from bench.errors import BenchError, Refused, UsageError
from bench.models.checkpoint import read_config as read_checkpoint_config
from bench.records.config import read_config
from bench.records.files import WriteFailed, sweep, write_atomically
from bench.records.journal import Journal, read_entries
from bench.records.migrations import OLDEST, SCHEMA_VERSION
from bench.records.pricing import priced_account
from bench.records.rows import Row
from bench.records.schema import BudgetInfo, ModelInfo, Processor, Result, Status, Timing
from bench.run.context import AdaptationContext
from bench.run.environment import processor, write_attempt
from bench.run.evaluator import Evaluator
from bench.run.launch import launch_training
from bench.run.prepare import PreparedRun, admit
from bench.run.progress import ProgressDisplay
from bench.run.run_id import IDENTITY_VERSION
from bench.run.test_split import TestSplit
from bench.run.timing import Clock
from methods.interface import Diverged, SingleModel
from tasks.interface import PromptStyle

CALIBRATION_EXAMPLES = 16
ONE = Engines()


def execute(
    prepared: PreparedRun,
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
    engines = _place(prepared, engines)
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
        timing = attempt.timing(time.perf_counter() - started)
        result = result.model_copy(update={"timing": timing})
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


def _open_journal(prepared: PreparedRun, engines: Engines) -> Journal:
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
    _check_schema(prepared.folder / "journal.jsonl")
    journal = Journal(prepared.folder / "journal.jsonl")
    write_atomically(path, prepared.config.model_dump_json(indent=1) + "\n")
    write_attempt(prepared.folder / "attempts", prepared.config, engines)
    return journal


def _check_schema(journal: Path) -> None:
    """Check that a run was begun under the present schema.

    Raises:
        Refused: If it was begun under another, whose journal lacks values that this one records.
    """
    for entry in read_entries(journal)[0][:1]:
        if (begun := entry["key"].get("schema", OLDEST)) != SCHEMA_VERSION:
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
    report: dict[str, Any] = field(default_factory=dict)


class _Runner:
    """One attempt at a run. Loads the engine and collects the fields of the result."""

    def __init__(
        self,
        prepared: PreparedRun,
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
        self.facts = _Facts()

    def close(self) -> None:
        self.opened.close()

    def begin(self) -> AdaptationContext:
        """Load the engine, calibrate the cost of one evaluation, and set the budget.

        Raises:
            Refused: If the run cannot be done for a stated reason.
        """
        prepared = self.prepared
        if prepared.refusal is not None:
            raise Refused(prepared.refusal)
        levels = [admit(task, allow_unsandboxed=prepared.config.allow_unsandboxed) for task in prepared.task_data.tasks]
        sandbox = next(filter(None, levels), None)
        with self.clock.span("loading"):
            engine = self._load_engine()
            engine = engine if self.wrap_engine is None else self.wrap_engine(engine)
        self.meter = Meter(engine.shape)
        style: PromptStyle = engine.style if prepared.config.prompt == "auto" else prepared.config.prompt
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

        self.evaluator = Evaluator(engine, prepared.task_data.adapted_on, style, self.meter, self.journal, self.clock)
        with self.display.stage("calibration"):
            examples = prepared.task_data.splits.support[:CALIBRATION_EXAMPLES]
            evaluation_flops, seconds = self.evaluator.calibrate(examples)
        self.meter.limit = int(prepared.evaluations * evaluation_flops)
        self.budget = self._budget(evaluation_flops)
        if self.journal.recovered <= 1:  # a resumed run recalls its calibration, and has part of the work behind it
            self.display.say(self._estimate(seconds))
        self.display.watch(self.meter, prepared.evaluations)
        return AdaptationContext(
            self.evaluator, prepared.task_data, prepared.config.seed, evaluation_flops, self.display
        )

    def run(self) -> Result:
        prepared, context = self.prepared, self.begin()
        if prepared.config.launch is not None:
            context.delegate_training = partial(self._launch_training, prepared.config.launch)
        assert self.meter is not None
        limit = self.meter.limit
        assert limit is not None
        self.facts.report = context.report  # a reference: a run that ends early records what was reported so far
        adapted = prepared.method.adapt(context)
        if self.meter.tripped or self.meter.flops(self.meter.ledger.adaptation()) > limit:
            raise OverBudget("the method continued after it was stopped, or bypassed the meter")
        self.meter.limit = None  # adaptation has ended, and nothing below is billed to the budget
        evaluator = self.evaluator.for_task(prepared.task_data.task)
        artifacts = dict(adapted) if isinstance(adapted, Mapping) else {"": adapted}
        test_split = TestSplit(evaluator, prepared.task_data, prepared.config, prepared.folder, self.display)
        self.facts.untested = test_split.untested
        if prepared.strategy is None:
            return self.ended("ok", rows=test_split.evaluate(SingleModel(), artifacts))
        return self.ended("ok", rows=test_split.evaluate_strategy(prepared.strategy, artifacts))

    def _launch_training(self, launch: dict[str, Any]) -> None:
        with self.display.stage(f"training in {self.prepared.config.processes} processes"):
            launch_training(self.prepared.folder, launch)

    def _load_engine(self) -> Engine:
        config, engines, load = self.prepared.config, self.engines, self._engine_factory()
        if engines.here:
            return load(device=config.device)
        from bench.engines.pool import EnginePool
        from bench.engines.tokenizer import CheckpointTokenizer

        assert engines.count is not None
        kind = config.device.partition(":")[0]
        with self.display.stage("engines", engines.count) as stage:
            if engines.address is None:
                from bench.engines.processes import child_processes

                devices = [f"cuda:{i}" if kind == "cuda" else kind for i in range(engines.count)]
                loads = [partial(load, device=device) for device in devices]
                workers: Any = child_processes(loads, threads=max(1, cores() // engines.count))
            else:
                from bench.engines.cluster import started

                # No index: each actor sees only its own GPU.
                workers = started(partial(load, device=kind), engines.count, engines.address, kind)
            tokenizer = CheckpointTokenizer(self.prepared.model.path, config.device)
            pool = EnginePool(tokenizer, partial(load, device=config.device), self.opened.enter_context(workers))
            stage.advance(steps=engines.count)
        return pool

    def _engine_factory(self) -> Callable[..., Engine]:
        """Return a function that creates an engine on a device."""
        config, model = self.prepared.config, self.prepared.model.path
        options: dict[str, Any] = {"dtype": config.dtype, "batch_size": config.batch_size}
        if config.engine == "vllm":
            from bench.engines.tokenizer import CheckpointTokenizer
            from bench.engines.vllm.engine import VllmEngine

            text = CheckpointTokenizer(model, config.device)
            style: PromptStyle = text.style if config.prompt == "auto" else config.prompt
            longest = self.prepared.task_data.max_length(style, text.encode)
            return partial(VllmEngine, model, max_model_len=longest, **options)
        from bench.engines.transformers import TransformersEngine

        return partial(TransformersEngine, model, neighbours=self.engines.count or 1, **options)

    def timing(self, total: float) -> Timing:
        """Return the wall-clock times of this attempt and what it generated."""
        work = self.clock.work
        return Timing(
            total=total,
            stages=self.display.seconds,
            kinds=dict(self.clock.seconds),
            new_tokens=work.decode_tokens,
            generation_flops=self.meter.flops(work) if self.meter else 0,
            generation_work=work,
        )

    def _estimate(self, seconds: float) -> str:
        """Say how long the run will take, given the seconds of the calibration for each of its examples."""
        prepared = self.prepared
        tested = len(prepared.task_data.splits.test[: prepared.config.limit])
        planned = prepared.method.plan(prepared.evaluations, prepared.task_data.traits).evaluations
        engines = self.engines.count or 1
        calibrated = min(engines, len(self.evaluator.cut(CALIBRATION_EXAMPLES)))  # engines that shared the calibration
        total = seconds * (planned + 2 * tested) * calibrated / engines  # base and result answer the test split
        minutes = f"{total / 60:.0f} minutes" if total >= 120 else f"{total:.0f} seconds"
        return f"about {minutes}: {planned} evaluations planned, {tested} test items, {seconds:.2g} s each"

    def _budget(self, evaluation_flops: float) -> BudgetInfo:
        assert self.meter is not None
        assert self.meter.limit is not None
        planned: dict[str, int] = {}
        for line in self.prepared.method.plan(self.prepared.evaluations, self.prepared.task_data.traits).lines:
            planned[line.account] = planned.get(line.account, 0) + line.evaluations
        return BudgetInfo(
            name=self.prepared.config.budget,
            evaluations=self.prepared.evaluations,
            evaluation_flops=evaluation_flops,
            flops=self.meter.limit,
            planned=planned,
            spent=0,
        )

    def ended(
        self, status: Status, reason: str | None = None, trace: str | None = None, rows: tuple[Row, ...] = ()
    ) -> Result:
        """Return the result with all fields known so far."""
        prepared, facts, ledger, budget = self.prepared, self.facts, {}, self.budget
        if self.meter is not None:
            accounts = self.meter.ledger.accounts()
            ledger = {name: priced_account(self.meter.shape, work) for name, work in accounts.items()}
            budget = budget and budget.model_copy(update={"spent": self.meter.spent})
        return Result(
            identity_version=IDENTITY_VERSION,
            id=prepared.id,
            status=status,
            reason=reason,
            traceback=trace,
            config=prepared.config,
            versions=prepared.versions,
            content_hash=prepared.task_data.splits.content_hash,
            splits=prepared.task_data.splits.sizes,
            model=facts.model,
            engine=facts.engine,
            processor=facts.processor,
            prompt=facts.prompt,
            sandbox=facts.sandbox,
            budget=budget,
            rows=rows,
            untested=facts.untested,
            ledger=ledger,
            report=facts.report,
        )


def _place(prepared: PreparedRun, engines: Engines) -> Engines:
    """Return the engines with their number, chosen by the model and the machine where it is open."""
    if engines.count is not None:
        return engines
    from bench.engines.transformers import SMALL_MODEL

    try:
        parameters = ModelShape.from_config(read_checkpoint_config(Path(prepared.model.path)) or {}).matmul_parameters
    except UsageError:  # loading the engine raises it again, and the run fails with it on record
        return replace(engines, count=1)
    width = 4 if prepared.config.dtype == "float32" else 2
    return engines.resolve(
        backend=prepared.config.engine,
        device=prepared.config.device,
        weight_bytes=width * parameters,
        small=parameters < SMALL_MODEL,
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
