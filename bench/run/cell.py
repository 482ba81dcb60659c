"""One run from configuration to result: prepare, calibrate, adapt, test, record.

Everything computed passes through the journal, so a run that is killed and resumed ends in the same result as an
unbroken one. The result is written last.
"""

from __future__ import annotations

import importlib.util
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from bench.compute.budget import budget_evaluations
from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import Work, hardware_flops
from bench.compute.meter import Meter, OverBudget
from bench.engines.cluster import Engines
from bench.engines.interface import Engine
from bench.errors import BenchError, Refused, UsageError, usage_error
from bench.models.source import ModelSource, PreparedModel, resolve
from bench.ranks import Ranks
from bench.records.files import WriteFailed, folder_atomically, sweep, write_atomically
from bench.records.journal import Journal
from bench.records.schema import (
    AccountRow,
    AnswerCost,
    BudgetInfo,
    ModelInfo,
    Result,
    Row,
    RunConfig,
    Timing,
    Versions,
    read_config,
    read_result,
)
from bench.registry import load_method
from bench.run.clock import Clock
from bench.run.coverage import coverages
from bench.run.desk import Desk
from bench.run.display import Display
from bench.run.identity import run_folder, run_id
from bench.run.launch import hand_over
from bench.run.outcome import Answers, accuracy, make_row, write_samples
from bench.run.provenance import write_attempt
from bench.run.subject import Subject, load_subject
from bench.run.views import AdaptationContext, Deployed
from bench.weights.noise import NOISE_VERSION
from methods.interface import Artifact, Diverged, Method, SingleModel
from methods.strategy import Strategy, parse_strategy, under, unsupported
from tasks.interface import PromptStyle, Task

CALIBRATION_EXAMPLES = 16
ONE = Engines()


@dataclass(frozen=True)
class Cell:
    """A run that can start: everything known that its identity depends on, nothing heavy loaded yet.

    Attributes:
        config: Resolved; `method_config` holds every default.
        method: Ready to adapt.
        subject: Tasks, ready to pose and score, and data.
        source: The model's.
        model: The checkpoint on this machine.
        versions: Of everything of ours that can change a number.
        evaluations: Size of the budget.
        strategy: How test answers come about; None for greedily.
        id: The run's identity.
        folder: The run's directory.
    """

    config: RunConfig
    method: Method
    subject: Subject
    source: ModelSource
    model: PreparedModel
    versions: Versions
    evaluations: int
    strategy: Strategy | None
    id: str
    folder: Path


def prepare(config: RunConfig, output: Path, display: Display) -> Cell:
    """Validate a configuration and fetch what it names.

    Raises:
        BenchError: If something in it cannot be used or had; nothing was written to `output`.
    """
    evaluations = budget_evaluations(config.budget)
    method_class = load_method(config.method)
    try:
        settings = method_class.Config.model_validate(config.method_config)
    except ValidationError as error:
        raise usage_error(f"settings of {config.method}", error) from error
    method = method_class(settings)
    method.spread(config.processes)
    if config.launch is not None and ":" in config.device:
        raise UsageError(f"--device {config.device}: launched processes take a device each; name its type alone")
    subject = load_subject(config)
    task, splits = subject.task, subject.splits
    if config.limit is not None and config.limit > len(splits.test):
        raise UsageError(f"--limit {config.limit}: the test split of {config.task} has {len(splits.test)} examples")
    if reason := method.supports(subject.traits):
        raise Refused(f"method {config.method} cannot run on {config.subject}: {reason}")
    strategy = None if config.strategy == "greedy" else parse_strategy(config.strategy)
    if strategy and (reason := unsupported(strategy, subject.traits)):
        raise Refused(f"--strategy {config.strategy} cannot be used on {config.subject}: {reason}")
    method.plan(evaluations, subject.traits)
    source = resolve(config.model)
    _require_libraries()
    model = source.prepare(display.bytes)
    resolved = {"method_config": settings.model_dump(mode="json"), "device": _device(config.device)}
    config = config.model_copy(update=resolved)
    versions = Versions(
        method=method.version,
        task=task.version,
        adapt_on=None if subject.adapted_on is task else subject.adapted_on.version,
        noise=NOISE_VERSION,
        flops=FLOPS_VERSION,
    )
    identity = run_id(config, versions, splits.content_hash, model.provenance.sha256, evaluations)
    folder = run_folder(output, config, source.slug, identity)
    return Cell(config, method, subject, source, model, versions, evaluations, strategy, identity, folder)


def finished(cell: Cell) -> Result | None:
    """Return the result of a cell that needs no more work; a failed one does."""
    if not (cell.folder / "result.json").exists():
        return None
    result = read_result(cell.folder)
    return result if result.status in ("ok", "over_budget", "diverged") else None


def execute(cell: Cell, display: Display, engines: Engines = ONE) -> Result:
    """Run a cell to its end, or go on where an earlier attempt stopped.

    Its outcome does not depend on where answers are computed.

    A failure of the run itself is a result with status `failed` and its traceback; a failure to write is raised.

    Raises:
        Refused: If another process is running this cell.
        WriteFailed: If the record cannot be written.
    """
    started = time.perf_counter()
    with _locked(cell.folder), display:
        sweep(cell.folder)
        attempt = _Attempt(cell, display, _begin(cell, engines), engines)
        try:
            result = attempt.run()
        except OverBudget as error:
            result = attempt.ended("over_budget", f"stopped at its budget: {error}")
        except Diverged as error:
            result = attempt.ended("diverged", str(error))
        except (WriteFailed, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
            result = attempt.ended("failed", reason, traceback.format_exc())
        finally:
            attempt.close()
        timing = Timing(total=time.perf_counter() - started, stages=display.seconds, kinds=dict(attempt.clock.seconds))
        result = result.model_copy(update={"timing": timing})
        write_atomically(cell.folder / "result.json", result.model_dump_json(indent=1) + "\n")
    return result


def take_part(cell: Cell, ranks: Ranks) -> None:
    """Train a cell as one of the processes that its run was handed to, from where its journal ends; ends the process.

    Raises:
        Diverged: If training came to nothing.
    """
    attempt = _Attempt(cell, Display(quiet=True), Journal(cell.folder / "journal.jsonl", owner=ranks.main))
    context = attempt.begin()
    ranks.gather(None)  # until everybody has read the journal, nobody adds to it
    context.ranks = ranks
    cell.method.adapt(context)


def _begin(cell: Cell, engines: Engines) -> Journal:
    """Note down in the run's folder that it is started."""
    path = cell.folder / "config.json"
    if path.exists():
        stored = read_config(path.parent)
        paths = {"data", "adapt_data", "model", "launch"}  # what in these can change an outcome is in the identity
        if stored.model_dump(exclude=paths) != cell.config.model_dump(exclude=paths):
            raise UsageError(
                f"{path} was changed since the run began and no longer describes it; restore it, or start anew"
            )
    journal = Journal(cell.folder / "journal.jsonl")
    write_atomically(path, cell.config.model_dump_json(indent=1) + "\n")
    write_attempt(cell.folder / "attempts", cell.config, engines)
    return journal


class _Attempt:
    """One start of a cell: loads the engine, and fills in the result as it becomes known."""

    def __init__(self, cell: Cell, display: Display, journal: Journal, engines: Engines = ONE) -> None:
        self.cell, self.display, self.journal, self.engines = cell, display, journal, engines
        self.opened = ExitStack()
        self.opened.callback(self.journal.close)
        self.clock = Clock()
        self.meter: Meter | None = None
        self.budget: BudgetInfo | None = None
        self.known: dict[str, object] = {"model": None, "engine": {}, "prompt": None, "sandbox": None}

    def close(self) -> None:
        self.opened.close()

    def begin(self) -> AdaptationContext:
        """Do what comes before adaptation."""
        cell = self.cell
        levels = [admit(task, allow_unsandboxed=cell.config.allow_unsandboxed) for task in cell.subject.tasks]
        sandbox = next(filter(None, levels), None)
        with self.clock.span("loading"):
            engine = self._load_engine()
        self.meter = Meter(engine.shape)
        style: PromptStyle = engine.style if cell.config.prompt == "auto" else cell.config.prompt
        provenance = cell.model.provenance
        info = ModelInfo(
            name=cell.source.label,
            origin=provenance.origin,
            fingerprint=provenance.sha256,
            digest=engine.digest,
            licence=provenance.licence,
        )
        self.known = {"model": info, "engine": engine.settings, "prompt": style, "sandbox": sandbox}
        # First in the journal, so that resuming on another engine or library is noticed before answers mix.
        opening = {"engine": engine.settings, "weights": engine.digest, "prompt": style}
        opening |= {"libraries": {name: version(name) for name in ("torch", "transformers")}}
        if self.journal.recall(opening) is None:
            self.journal.append(opening, {})
        if self.journal.recovered > 1:
            self.display.say(f"resuming: {self.journal.recovered} journalled steps will not be computed again")

        self.desk = Desk(engine, cell.subject.adapted_on, style, self.meter, self.journal, self.clock)
        with self.display.stage("calibration"):
            evaluation_flops = self.desk.calibrate(cell.subject.splits.support[:CALIBRATION_EXAMPLES])
        self.meter.limit = int(cell.evaluations * evaluation_flops)
        self.budget = self._budget(evaluation_flops)
        self.display.watch(self.meter, cell.evaluations)
        return AdaptationContext(self.desk, cell.subject, cell.config.seed, evaluation_flops, self.display)

    def run(self) -> Result:
        cell, context = self.cell, self.begin()
        if cell.config.launch is not None:
            context.hand_over = partial(self._hand_over, cell.config.launch)
        assert self.meter is not None
        limit = self.meter.limit
        assert limit is not None
        self.known["report"] = context.report  # filled in as it goes, so that a run that ends early has its part
        adapted = cell.method.adapt(context)
        if self.meter.tripped or self.meter.flops(self.meter.ledger.adaptation()) > limit:
            raise OverBudget("the method went on after it was stopped, or around the meter")
        self.meter.limit = None  # adaptation has ended; nothing below is billed to it
        desk = self.desk.turned_to(cell.subject.task)
        artifacts = dict(adapted) if isinstance(adapted, Mapping) else {"": adapted}
        if cell.strategy is None:
            return self.ended("ok", **self._test(desk, SingleModel(), artifacts))
        return self.ended("ok", **self._test_under(cell.strategy, desk, artifacts))

    def _hand_over(self, launch: dict[str, Any]) -> None:
        with self.display.stage(f"training in {self.cell.config.processes} processes"):
            hand_over(self.cell.folder, launch)

    def _load_engine(self) -> Engine:
        from bench.engines.transformers import TransformersEngine

        config = self.cell.config
        load = partial(TransformersEngine, self.cell.model.path, dtype=config.dtype, batch_size=config.batch_size)
        if self.engines.here:
            return load(device=config.device)
        from bench.engines.cluster import started
        from bench.engines.pool import Pool

        device = config.device.partition(":")[0]  # an engine sees no GPU but its own
        with self.display.stage("engines", self.engines.count) as stage:
            remote = partial(load, device=device, neighbours=self.engines.count)
            workers = self.opened.enter_context(started(remote, self.engines, device))
            pool = Pool(load(device="cpu"), workers)
            stage.advance(steps=self.engines.count)
        return pool

    def _test_under(self, strategy: Strategy, desk: Desk, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Test base and artifacts under a strategy, which can be applied to one model and to nothing else."""
        cell, traits = self.cell, self.cell.subject.traits
        # A subclass may answer in a way of its own, which the strategy would put aside.
        models = {label: artifact for label, artifact in artifacts.items() if type(artifact) is SingleModel}
        reason = f"it is not one model, and --strategy {cell.config.strategy} needs answers of one; test it greedily"
        self.known["refused"] = {label: reason for label in artifacts if label not in models}
        if not models:
            raise Refused(f"method {cell.config.method}, what it deploys: {reason}")
        asked = {label: under(strategy, model, traits) for label, model in models.items()}
        outcome = self._test(desk, under(strategy, SingleModel(), traits), asked)
        if strategy.kind != "pass":
            return outcome
        examples = cell.subject.splits.test[: cell.config.limit]
        deployed = Deployed(desk, examples, self.display)
        base, rows = coverages(desk, deployed, examples, models, strategy.k, self._answer_cost)
        covered = tuple(row.model_copy(update={"coverage": rows[row.label]}) for row in outcome["rows"])
        return outcome | {"base_coverage": base, "rows": covered}

    def _test(self, desk: Desk, as_base: Artifact, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Return base and rows on the test split, for the result."""
        cell, examples = self.cell, self.cell.subject.splits.test[: self.cell.config.limit]
        for label in artifacts:
            if not re.fullmatch(r"[\w.=@-]*", label) or set(label) == {"."}:
                raise BenchError(f"method {cell.config.method}: {label!r} is no label; letters, digits and .=@_- are")
        if not artifacts:
            raise BenchError(f"method {cell.config.method}: adapt returned nothing to deploy")
        desk.expect([])  # what was made for the search is not needed any more
        ids = [example.id for example in examples]
        # The base answers first, so that no artifact can put words in its mouth.
        deployed = Deployed(desk, examples, self.display)
        base_texts = as_base.answer(deployed, ids)
        with self.display.stage("scoring: base"):
            base = (base_texts, desk.judge(examples, base_texts, "base"))
        base_cost = self._answer_cost(desk.meter.ledger["evaluation"], len(ids))
        as_base_asked = deployed.asked
        deployed.account = "inference"
        answers: dict[str, Answers] = {}
        rows: list[Row] = []
        for label, artifact in artifacts.items():
            deployed.asked, before = set(), desk.meter.ledger["inference"]
            texts = artifact.answer(deployed, ids)
            if len(texts) != len(ids) or not all(isinstance(text, str) for text in texts):
                raise BenchError(
                    f"method {cell.config.method}: its artifact gave {len(texts)} answers to {len(ids)} examples"
                )
            with self.display.stage(f"scoring: {label or cell.config.method}"):
                scores = base[1] if texts == base_texts else desk.judge(examples, texts, label)
            answers[label] = texts, scores
            cost = self._answer_cost(desk.meter.ledger["inference"] - before, len(ids))
            changed = deployed.asked != as_base_asked or texts != base_texts
            row = make_row(label, base[1], scores, cost, changed=changed, report=artifact.report)
            rows.append(row.model_copy(update={"measures": desk.task.measures(examples, texts, scores)}))
        with self.display.stage("saving"):
            write_samples(cell.folder / "samples.jsonl", examples, desk.prompt_sha256, answers, base)
            with folder_atomically(cell.folder / "artifact") as folder:
                for label, artifact in artifacts.items():
                    (folder / label).mkdir(exist_ok=True)
                    artifact.save(deployed, folder / label)
        judged = [score for score in base[1] if score.status != "infrastructure"]
        return {
            "base": accuracy(judged, len(ids) - len(judged)),
            "base_cost": base_cost,
            "base_measures": desk.task.measures(examples, *base),
            "rows": tuple(rows),
        }

    def _budget(self, evaluation_flops: float) -> BudgetInfo:
        assert self.meter is not None
        assert self.meter.limit is not None
        planned: dict[str, int] = {}
        for line in self.cell.method.plan(self.cell.evaluations, self.cell.subject.traits).lines:
            planned[line.account] = planned.get(line.account, 0) + line.evaluations
        return BudgetInfo(
            name=self.cell.config.budget,
            evaluations=self.cell.evaluations,
            evaluation_flops=evaluation_flops,
            flops=self.meter.limit,
            planned=planned,
            spent=0,
        )

    def _answer_cost(self, work: Work, examples: int) -> AnswerCost:
        assert self.meter is not None
        return AnswerCost(
            evaluations=work.evaluations / examples,
            flops=self.meter.flops(work) / examples,
            new_tokens=work.decode_tokens / examples,
        )

    def ended(self, status: str, reason: str | None = None, trace: str | None = None, **outcome: object) -> Result:
        """Return the result with everything known so far."""
        cell, ledger, budget = self.cell, {}, self.budget
        if self.meter is not None:
            shape = self.meter.shape
            ledger = {
                name: AccountRow(work=work, flops=self.meter.flops(work), hardware_flops=hardware_flops(shape, work))
                for name, work in self.meter.ledger.accounts().items()
            }
            budget = budget and budget.model_copy(update={"spent": self.meter.spent})
        return Result.model_validate(
            {
                "id": cell.id,
                "status": status,
                "reason": reason,
                "traceback": trace,
                "config": cell.config,
                "versions": cell.versions,
                "content_hash": cell.subject.splits.content_hash,
                "splits": cell.subject.splits.sizes,
                "budget": budget,
                "ledger": ledger,
                **self.known,
                **outcome,
            }
        )


def _require_libraries() -> None:
    for name in ("torch", "transformers"):
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            found = None
        if found is None:
            raise Refused(f"running a model needs {name}: pip install -c requirements/cpu.txt '.[local]'")


def _device(name: str) -> str:
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from error
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def admit(task: Task, *, allow_unsandboxed: bool) -> str | None:
    """Return the sandbox's level if the task runs model-written code, None if it does not.

    Raises:
        Refused: If the level is below what is required and that was not allowed.
    """
    if not task.executes_code:
        return None
    from bench.sandbox import probe

    strength = probe()
    strength.require(allow_unsandboxed=allow_unsandboxed)
    task.allow_unsandboxed = allow_unsandboxed
    return strength.level


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise Refused(f"{folder}: another process is running this cell; wait for it, or stop it") from error
    except OSError as error:
        raise WriteFailed(folder, error) from error
    try:
        yield
    finally:
        lock.release()
