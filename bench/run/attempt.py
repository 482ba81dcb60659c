"""One attempt at a run or a test: its journal, its model, and the fields of the result that are known so far."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.compute.flops import closed_form
from bench.compute.ledger import ACCOUNTS, Account
from bench.compute.meter import Meter
from bench.engines.interface import Engine
from bench.engines.placement import Engines
from bench.errors import Refused, UsageError
from bench.models.checkpoint import read_config as read_checkpoint_config
from bench.records.config import read_config
from bench.records.files import write_atomically
from bench.records.journal import Journal, read_entries
from bench.records.migrations import OLDEST, SCHEMA_VERSION
from bench.records.pricing import priced_account
from bench.records.rows import Row
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Processor, Result, Status, Timing
from bench.records.source import Artifacts
from bench.records.tuning import Tuning
from bench.run.endpoint import is_served
from bench.run.environment import processor, write_attempt
from bench.run.evaluator import Evaluator
from bench.run.loading import load_engine
from bench.run.prepare import Prepared, admit
from bench.run.progress import ProgressDisplay
from bench.run.run_id import IDENTITY_VERSION
from bench.run.timing import Clock
from tasks.interface import PromptStyle, Task

ONE = Engines()
MERGED = "has no place for a system message: its text stands before that of the user's first message"


def open_journal(prepared: Prepared, engines: Engines) -> Journal:
    """Open the run's journal, and write its config.json and an attempts file.

    Raises:
        UsageError: If config.json was changed since the run began.
        Refused: If the run was begun under another record schema.
    """
    path = prepared.folder / "config.json"
    if path.exists():
        stored = read_config(path.parent)
        # These may differ: the run id covers the content of paths, and the sandbox is checked again.
        paths = {"data", "adapt_data", "model", "launch", "allow_unsandboxed", "endpoint"}
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
class Facts:
    """Fields of the result that become known while the run proceeds. See `bench.records.schema.Result`.

    The ledger is that of the source run of a test. The meter's accounts join it at the end.
    """

    model: ModelInfo | None = None
    engine: dict[str, str | int] = field(default_factory=dict)
    processor: Processor | None = None
    prompt: PromptStyle | None = None
    stop: tuple[str, ...] = ()
    sandbox: str | None = None
    budget: BudgetInfo | None = None
    ledger: dict[Account, AccountRow] = field(default_factory=dict)
    untested: dict[str, str] = field(default_factory=dict)
    ungated: str | None = None
    saved: Artifacts | None = None
    report: dict[str, Any] = field(default_factory=dict)
    tuning: Tuning | None = None


class Attempt:
    """One attempt at a run or a test. Loads the model and collects the fields of the result.

    Args:
        prepared: Run or test.
        display: Progress display.
        journal: Its journal.
        engines: Number and location of the engines.
        wrap_engine: Function that wraps the engine, for instrumentation; None for no wrapper.
    """

    def __init__(
        self,
        prepared: Prepared,
        display: ProgressDisplay,
        journal: Journal,
        engines: Engines = ONE,
        wrap_engine: Callable[[Engine], Engine] | None = None,
    ) -> None:
        self.prepared, self.display, self.journal, self.engines = prepared, display, journal, engines
        self._wrap_engine = wrap_engine
        self._opened = ExitStack()
        self._meter: Meter | None = None
        self.clock = Clock()
        self.facts = Facts()

    def close(self) -> None:
        """Stop the engines."""
        self._opened.close()

    def load(self, task: Task) -> Evaluator:
        """Load the engine, and return the evaluator of a task.

        Raises:
            Refused: If the run cannot be done for a stated reason.
        """
        prepared, data, facts = self.prepared, self.prepared.task_data, self.facts
        if prepared.refusal is not None:
            raise Refused(prepared.refusal)
        levels = [admit(task, allow_unsandboxed=prepared.config.allow_unsandboxed) for task in data.tasks]
        sandbox = next(filter(None, levels), None)
        with self.clock.span("loading"):
            engine = load_engine(prepared, self.engines, self.display, self._opened)
            engine = engine if self._wrap_engine is None else self._wrap_engine(engine)
        self._meter = Meter(engine.profile)
        style: PromptStyle = engine.style if prepared.config.prompt == "auto" else prepared.config.prompt
        data.check_conversations(style, engine.encode)
        if prepared.versions.system_merged is not None:
            self.display.note(f"the chat template of {prepared.source.label} {MERGED}")
        provenance = prepared.model.provenance
        facts.model = ModelInfo(
            name=prepared.source.label,
            origin=provenance.origin,
            fingerprint=provenance.sha256,
            digest=engine.digest,
            licence=provenance.licence,
            shape=closed_form(read_checkpoint_config(Path(prepared.model.path)) or {}),
            profile=engine.profile,
        )
        facts.engine, facts.prompt, facts.sandbox = engine.settings, style, sandbox
        # The processor of a server is not known.
        facts.processor = None if is_served(prepared.config) else processor(prepared.config.device)
        # The first journal entry. It detects a resume with another engine or library before their answers mix.
        opening = {"engine": engine.settings, "weights": engine.digest, "prompt": style, "schema": SCHEMA_VERSION}
        opening |= {"libraries": {name: version(name) for name in ("torch", "transformers")}}
        if self.journal.recall(opening) is None:
            self.journal.append(opening, {})
        if self.journal.recovered > 1:
            self.display.say(f"resuming: {self.journal.recovered} journal entries will not be computed again")
        evaluator = Evaluator(engine, task, style, self._meter, self.journal, self.clock, data.prompting, data.reward)
        evaluator.models = {name: Path(model.path) for name, model in prepared.models.items()}
        facts.stop = evaluator.for_task(data.task).sampling.stop
        return evaluator

    def timing(self, total: float, journal: str) -> Timing:
        """Return the wall-clock times of this attempt and what it generated."""
        work = self.clock.work
        return Timing(
            total=total,
            stages=self.display.seconds,
            kinds=dict(self.clock.seconds),
            accounts={name: self.clock.accounts[name] for name in ACCOUNTS if name in self.clock.accounts},
            new_tokens=work.decode_tokens,
            generation_flops=self._meter.flops(work) if self._meter else 0,
            generation_work=work,
            journal=journal,
        )

    def ended(
        self, status: Status, reason: str | None = None, trace: str | None = None, rows: tuple[Row, ...] = ()
    ) -> Result:
        """Return the result with all fields known so far."""
        prepared, facts = self.prepared, self.facts
        ledger, budget = dict(facts.ledger), facts.budget
        if self._meter is not None:
            accounts = self._meter.ledger.accounts()
            ledger |= {name: priced_account(self._meter.profile, work) for name, work in accounts.items()}
            budget = budget and budget.model_copy(update={"spent": budget.spent + self._meter.spent})
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
            stop=facts.stop,
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
