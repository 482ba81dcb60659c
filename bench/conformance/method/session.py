"""One method in its exam: its runs, each made when a check first asks for it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.conformance.method.instrument import Instrument, InstrumentedEngine, InstrumentedMethod
from bench.conformance.method.task import Sums
from bench.records.schema import Result, RunConfig
from bench.registry import load_method
from bench.run.prepare import PreparedRun, prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.interface import Method
from tasks.interface import TaskTraits

MODEL = "tiny-adder"
LOG = "killed.log"
_PRELOADED = ["bench.conformance.method.session", "bench.engines.transformers", "transformers"]


@dataclass(frozen=True)
class ObservedRun:
    """A run of the exam.

    Attributes:
        prepared: The run that was executed.
        result: Its record.
        instrument: What was seen of it.
    """

    prepared: PreparedRun
    result: Result
    instrument: Instrument

    @property
    def outcome(self) -> dict[str, Any]:
        """All that two runs of one seed must have in common: the record but for times, and every file left behind."""
        files = sorted(path for path in (self.prepared.folder / "artifact").rglob("*") if path.is_file())
        content = {str(path.relative_to(self.prepared.folder)): _sha256(path) for path in files}
        samples = self.prepared.folder / "samples.jsonl"
        record = self.result.model_dump(mode="json", exclude={"timing"})
        return record | {"artifact": content, "samples": _sha256(samples) if samples.exists() else None}


@dataclass(frozen=True)
class MethodSession:
    """A method with its settings.

    Attributes:
        name: What it is loaded by: another process loads it once more.
        settings: Of the method.
        budget: Of its runs, in evaluations.
        folder: For runs.
    """

    name: str
    settings: Mapping[str, Any]
    budget: int
    folder: Path

    @cached_property
    def reference(self) -> ObservedRun:
        """The run that the others are compared with."""
        return self.run("reference")

    @cached_property
    def again(self) -> ObservedRun:
        """The same once more."""
        return self.run("again")

    @cached_property
    def traits(self) -> TaskTraits:
        """What the method is told of the exam's task."""
        task = Sums()
        return TaskTraits.of(task, task.load())

    @cached_property
    def model_files(self) -> dict[str, str]:
        """What the model's files held before the first run."""
        return self.hashed_model()

    def method(self) -> Method:
        """Return the method, made anew.

        Raises:
            UsageError: If it cannot be loaded, or its settings are none.
        """
        found = load_method(self.name)
        return found(found.Config.model_validate(dict(self.settings)))

    def hashed_model(self) -> dict[str, str]:
        """Return the hashes of the model's files by name."""
        folder = Path(self._cell("unused", 0, self.budget, Sums).model.path)
        return {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}

    def run(self, what: str, *, seed: int = 0, budget: int | None = None, task: type[Sums] = Sums) -> ObservedRun:
        """Run it, or go on with a run that was killed.

        Args:
            what: The run's folder.
            seed: Of the run.
            budget: In evaluations; None for the exam's.
            task: What it adapts to.

        Raises:
            Refused: If the method does not take such a task or budget.
        """
        prepared = self._cell(what, seed, self.budget if budget is None else budget, task)
        return _observed(prepared, Instrument())

    def kill(self, what: str, step: int) -> int:
        """Have another process begin a run and be killed at a step; return its exit status.

        What it wrote is in a log in the folder.
        """
        prepared = self._cell(what, 0, self.budget, Sums)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)  # once for all exams of this process
        arguments = (prepared.config.model_dump_json(), str(self.folder / what), step)
        child = context.Process(target=_doomed, args=arguments)
        child.start()
        child.join()
        assert child.exitcode is not None
        return child.exitcode

    def _cell(self, what: str, seed: int, budget: int, task: type[Sums]) -> PreparedRun:
        config = RunConfig(
            method=self.name,
            task=f"{task.__module__}:{task.__name__}",
            model=MODEL,
            budget=str(budget),
            seed=seed,
            dtype="float32",
            device="cpu",
            method_config=dict(self.settings),
        )
        return prepare(config, self.folder / what, ProgressDisplay(quiet=True))


def _observed(prepared: PreparedRun, instrument: Instrument) -> ObservedRun:
    task = prepared.task_data.task
    assert isinstance(task, Sums)
    method = InstrumentedMethod(prepared.method, instrument)

    def through(engine: Any) -> Any:
        method.engine = InstrumentedEngine(engine, instrument, prepared.task_data)
        return method.engine

    instrument.guard(prepared.task_data)
    task.instrument = instrument
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about themselves
        result = execute(replace(prepared, method=method), ProgressDisplay(quiet=True), wrap_engine=through)  # type: ignore[arg-type]
    return ObservedRun(prepared, result, instrument)


def _doomed(config: str, output: str, step: int) -> None:
    """The process that is killed."""
    path = Path(output)
    path.mkdir(parents=True, exist_ok=True)
    log = os.open(path / LOG, os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    _observed(
        prepare(RunConfig.model_validate_json(config), path, ProgressDisplay(quiet=True)), Instrument(kill_at=step)
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
