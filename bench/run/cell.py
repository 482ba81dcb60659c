"""One run from configuration to result: prepare, calibrate, adapt, test, record.

Everything computed passes through the journal, so a run that is killed and resumed ends in the same result as an
unbroken one. The result is written last.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from bench.compute.budget import budget_evaluations
from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import Work, hardware_flops
from bench.compute.meter import Meter, OverBudget
from bench.engines.interface import Engine
from bench.errors import BenchError, Refused, UsageError
from bench.models.source import ModelSource, PreparedModel, resolve
from bench.records.files import WriteFailed, folder_atomically, write_atomically
from bench.records.journal import Journal
from bench.records.schema import (
    AccountRow,
    Accuracy,
    AnswerCost,
    BudgetInfo,
    Comparison,
    ModelInfo,
    Result,
    RunConfig,
    Sample,
    Timing,
    Versions,
    read_result,
)
from bench.registry import load_method, load_task
from bench.run.desk import AdaptationContext, Deployed, Desk, KnownAnswers
from bench.run.display import Display
from bench.run.identity import run_folder, run_id
from bench.stats import mcnemar_exact, paired_counts, paired_difference_interval, wilson_interval
from bench.weights.noise import NOISE_VERSION
from bench.weights.points import Point
from methods.interface import Artifact, Method
from tasks.interface import Example, PromptStyle, Score, Splits, Task

_BASE = Point()

CALIBRATION_EXAMPLES = 16
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "bench-post-training")


@dataclass(frozen=True)
class Cell:
    """A run that can start: everything known that its identity depends on, nothing heavy loaded yet.

    Attributes:
        config: Resolved; `method_config` holds every default.
        method: Ready to adapt.
        task: Ready to pose and score.
        splits: The task's data.
        source: The model's.
        model: The checkpoint on this machine.
        versions: Of everything of ours that can change a number.
        evaluations: Size of the budget.
        id: The run's identity.
        folder: The run's directory.
    """

    config: RunConfig
    method: Method
    task: Task
    splits: Splits
    source: ModelSource
    model: PreparedModel
    versions: Versions
    evaluations: int
    id: str
    folder: Path


def prepare(config: RunConfig, output: Path, display: Display) -> Cell:
    """Validate a configuration and fetch what it names.

    Raises:
        BenchError: If something in it cannot be used or had; nothing was written to `output`.
    """
    evaluations = budget_evaluations(config.budget)
    method_class = load_method(config.method)
    settings = method_class.Config.model_validate(config.method_config)
    method = method_class(settings)
    task = load_task(config.task)
    splits = task.load(Path(config.data) if config.data else None)
    if config.limit is not None and config.limit > len(splits.test):
        raise UsageError(f"--limit {config.limit}: the test split of {config.task} has {len(splits.test)} examples")
    if reason := method.supports(splits.sizes):
        raise Refused(f"method {config.method} cannot run on {config.task}: {reason}")
    method.plan(evaluations, splits.sizes)
    source = resolve(config.model)
    _require_libraries()
    model = source.prepare(display.bytes)
    config = config.model_copy(update={"method_config": settings.model_dump(mode="json")})
    versions = Versions(method=method.version, task=task.version, noise=NOISE_VERSION, flops=FLOPS_VERSION)
    identity = run_id(config, versions, splits.content_hash, model.provenance.sha256, evaluations)
    folder = run_folder(output, config, source.slug, identity)
    return Cell(config, method, task, splits, source, model, versions, evaluations, identity, folder)


def finished(cell: Cell) -> Result | None:
    """Return the result of a cell that needs no more work; a failed one does."""
    if not (cell.folder / "result.json").exists():
        return None
    result = read_result(cell.folder)
    return result if result.status in ("ok", "over_budget") else None


def execute(cell: Cell, display: Display) -> Result:
    """Run a cell to its end, or go on where an earlier attempt stopped.

    A failure of the run itself is a result with status `failed` and its traceback; a failure to write is raised.

    Raises:
        Refused: If another process is running this cell.
        WriteFailed: If the record cannot be written.
    """
    started = time.perf_counter()
    with _locked(cell.folder), display:
        attempt = _Attempt(cell, display)
        try:
            result = attempt.run()
        except OverBudget as error:
            result = attempt.ended("over_budget", f"stopped at its budget: {error}")
        except (WriteFailed, KeyboardInterrupt):
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
            result = attempt.ended("failed", reason, traceback.format_exc())
        finally:
            attempt.close()
        timing = Timing(total=time.perf_counter() - started, stages=display.seconds)
        result = result.model_copy(update={"timing": timing})
        write_atomically(cell.folder / "result.json", result.model_dump_json(indent=1) + "\n")
    return result


class _Attempt:
    """One start of a cell: opens the journal, loads the engine, and fills in the result as it becomes known."""

    def __init__(self, cell: Cell, display: Display) -> None:
        self.cell, self.display = cell, display
        config_path = cell.folder / "config.json"
        self._check_config(config_path)
        self.journal = Journal(cell.folder / "journal.jsonl")
        write_atomically(config_path, cell.config.model_dump_json(indent=1) + "\n")
        _write_attempt(cell)
        self.meter: Meter | None = None
        self.budget: BudgetInfo | None = None
        self.known: dict[str, object] = {"model": None, "engine": {}, "prompt": None, "sandbox": None}

    def _check_config(self, path: Path) -> None:
        if path.exists():
            stored = RunConfig.model_validate_json(path.read_text(encoding="utf-8"))
            if stored.model_dump(exclude={"data", "model"}) != self.cell.config.model_dump(exclude={"data", "model"}):
                raise UsageError(
                    f"{path} was changed since the run began and no longer describes it; restore it, or start anew"
                )

    def close(self) -> None:
        self.journal.close()

    def run(self) -> Result:
        cell = self.cell
        sandbox = admit(cell.task, allow_unsandboxed=cell.config.allow_unsandboxed)
        engine = _load_engine(cell)
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
        # First in the journal, so that resuming on another engine is noticed before its answers mix.
        opening = {"engine": engine.settings, "weights": engine.digest, "prompt": style}
        if self.journal.recall(opening) is None:
            self.journal.append(opening, {})
        if self.journal.recovered > 1:
            self.display.say(f"resuming: {self.journal.recovered} journalled steps will not be computed again")

        desk = Desk(engine, cell.task, style, self.meter, self.journal)
        with self.display.stage("calibration"):
            evaluation_flops = desk.calibrate(cell.splits.support[:CALIBRATION_EXAMPLES])
        self.meter.limit = int(cell.evaluations * evaluation_flops)
        self.budget = self._budget(evaluation_flops)
        self.display.watch(self.meter, cell.evaluations)
        context = AdaptationContext(desk, cell.splits, cell.config.seed, evaluation_flops, self.display)
        artifact = cell.method.adapt(context)
        if self.meter.tripped:
            raise OverBudget("the method went on after it was stopped")
        self.meter.limit = None  # adaptation has ended; nothing below is billed to it
        return self._test(desk, artifact)

    def _test(self, desk: Desk, artifact: Artifact) -> Result:
        assert self.meter is not None
        cell, examples = self.cell, self.cell.splits.test[: self.cell.config.limit]
        known: KnownAnswers = {}
        deployed = Deployed(desk, "inference", self.display, known)
        texts = artifact.answer(deployed, examples)
        base_texts = Deployed(desk, "evaluation", self.display, known).answer(_BASE, examples)
        with self.display.stage("scoring", len(examples)):
            scores = cell.task.score_many(examples, texts)
            same = texts == base_texts
            base_scores = scores if same else cell.task.score_many(examples, base_texts)
        with self.display.stage("saving"):
            _write_samples(cell, desk, examples, (texts, scores), None if same else (base_texts, base_scores))
            with folder_atomically(cell.folder / "artifact") as folder:
                artifact.save(deployed, folder)
        return self.ended(
            "ok",
            outcome=accuracy(scores),
            base=accuracy(base_scores),
            comparison=compare(base_scores, scores),
            cost=self._answer_cost("inference", len(examples)),
            base_cost=self._answer_cost("evaluation", len(examples)),
            changed=artifact.changed,
            report=artifact.report,
        )

    def _budget(self, evaluation_flops: float) -> BudgetInfo:
        assert self.meter is not None
        assert self.meter.limit is not None
        planned: dict[str, int] = {}
        for line in self.cell.method.plan(self.cell.evaluations, self.cell.splits.sizes).lines:
            planned[line.account] = planned.get(line.account, 0) + line.evaluations
        return BudgetInfo(
            name=self.cell.config.budget,
            evaluations=self.cell.evaluations,
            evaluation_flops=evaluation_flops,
            flops=self.meter.limit,
            planned=planned,
            spent=0,
        )

    def _answer_cost(self, account: str, examples: int) -> AnswerCost:
        assert self.meter is not None
        work: Work = self.meter.ledger[account]  # type: ignore[index]
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
                "content_hash": cell.splits.content_hash,
                "splits": cell.splits.sizes,
                "budget": budget,
                "ledger": ledger,
                **self.known,
                **outcome,
            }
        )


def accuracy(scores: Sequence[Score]) -> Accuracy:
    """Return the accuracy of judged answers with its 95 % Wilson interval."""
    judged = [s for s in scores if s.status != "infrastructure"]
    correct, n = sum(s.correct for s in judged), len(judged)
    low, high = wilson_interval(correct, n)
    return Accuracy(
        correct=correct,
        items=n,
        excluded=len(scores) - n,
        accuracy=correct / n if n else 0.0,
        low=low,
        high=high,
        mean_reward=sum(s.reward for s in judged) / n if n else 0.0,
    )


def compare(before: Sequence[Score], now: Sequence[Score]) -> Comparison:
    """Compare two sets of answers to the same examples, on those that could be judged in both."""
    pairs = [
        (b.correct, n.correct) for b, n in zip(before, now, strict=True) if "infrastructure" not in (b.status, n.status)
    ]
    counts = paired_counts([b for b, _ in pairs], [n for _, n in pairs])
    low, high = paired_difference_interval(counts.fixes, counts.regressions, counts.n)
    return Comparison(
        items=counts.n,
        fixes=counts.fixes,
        regressions=counts.regressions,
        difference=counts.difference if counts.n else 0.0,
        low=low,
        high=high,
        p_value=mcnemar_exact(counts.fixes, counts.regressions),
    )


def _load_engine(cell: Cell) -> Engine:
    from bench.engines.transformers import TransformersEngine

    config = cell.config
    return TransformersEngine(
        cell.model.path,
        dtype=config.dtype,
        device=config.device,
        batch_size=config.batch_size,
    )


def _require_libraries() -> None:
    for name in ("torch", "transformers"):
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            found = None
        if found is None:
            raise Refused(f"running a model needs {name}: pip install -c requirements/cpu.txt '.[local]'")


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


def _write_attempt(cell: Cell) -> None:
    folder = cell.folder / "attempts"
    number = len(list(folder.glob("*.json"))) + 1 if folder.exists() else 1
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    attempt = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }
    write_atomically(folder / f"{number}.json", json.dumps(attempt, indent=1) + "\n")


Judged = tuple[Sequence[str], Sequence[Score]]


def _write_samples(cell: Cell, desk: Desk, examples: Sequence[Example], now: Judged, base: Judged | None) -> None:
    lines = []
    for i, example in enumerate(examples):
        text, score = now[0][i], now[1][i]
        judged = score.status != "infrastructure"
        base_score = base[1][i] if base else None
        sample = Sample(
            id=example.id,
            prompt_sha256=desk.prompt_sha256(example),
            text=text,
            answer=score.answer,
            correct=score.correct if judged else None,
            reward=score.reward if judged else None,
            status=score.status,
            detail=score.detail,
            base_text=base[0][i] if base else None,
            base_correct=base_score.correct if base_score and base_score.status != "infrastructure" else None,
        )
        lines.append(sample.model_dump_json() + "\n")
    write_atomically(cell.folder / "samples.jsonl", "".join(lines))
