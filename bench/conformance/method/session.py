"""Session of a method's conformance checks: executes the runs that the checks inspect, when first needed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.conformance.method.instrument import Instrument, InstrumentedEngine, InstrumentedMethod
from bench.conformance.method.task import Sums
from bench.records.config import RunConfig
from bench.records.samples import read_samples
from bench.records.schema import Result
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
    """Run that was executed with instruments.

    Attributes:
        prepared: Prepared run.
        result: Result of the run.
        instrument: Observations of the run.
    """

    prepared: PreparedRun
    result: Result
    instrument: Instrument

    @property
    def outcome(self) -> dict[str, Any]:
        """Everything that two runs with the same seed must share: the record without times, and hashes of all files.

        Samples are without their seed, so that two seeds differ in what the method did alone.
        """
        files = sorted(path for path in (self.prepared.folder / "artifact").rglob("*") if path.is_file())
        content = {str(path.relative_to(self.prepared.folder)): _sha256(path) for path in files}
        samples = self.prepared.folder / "samples.jsonl"
        record = self.result.model_dump(mode="json", exclude={"timing", "samples_sha256"})
        return record | {"artifact": content, "samples": _answers(self.prepared.folder) if samples.exists() else None}


@dataclass(frozen=True)
class MethodSession:
    """Method under check, with its settings and runs.

    Attributes:
        name: Name that the method is loaded by, also in other processes.
        settings: Settings of the method.
        budget: Default budget of a run, in evaluations.
        folder: Folder for run directories.
        options: Fields of `RunConfig` that differ from those of the other checks.
    """

    name: str
    settings: Mapping[str, Any]
    budget: int
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def reference(self) -> ObservedRun:
        """Reference run, which other runs are compared with."""
        return self.run("reference")

    @cached_property
    def repeated(self) -> ObservedRun:
        """Repetition of the reference run, with the same seed."""
        return self.run("repeated")

    @cached_property
    def traits(self) -> TaskTraits:
        """Traits of the task that the checks use."""
        task = Sums()
        return TaskTraits.of(task, task.load())

    @cached_property
    def model_files(self) -> dict[str, str]:
        """Hashes of the model's files before the first run, by name."""
        return self.hashed_model()

    def method(self) -> Method:
        """Return a new instance of the method.

        Raises:
            UsageError: If the method cannot be loaded, or its settings are invalid.
        """
        found = load_method(self.name)
        return found(found.Config.model_validate(dict(self.settings)))

    def hashed_model(self) -> dict[str, str]:
        """Return the current hashes of the model's files, by name."""
        folder = Path(self._prepare("unused", 0, self.budget, Sums).model.path)
        return {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}

    def run(self, name: str, *, seed: int = 0, budget: int | None = None, task: type[Sums] = Sums) -> ObservedRun:
        """Execute a run, or resume it if it was killed.

        Args:
            name: Folder name for the run.
            seed: Seed of the run.
            budget: Budget in evaluations; None for the session's.
            task: Task to adapt to.
        """
        prepared = self._prepare(name, seed, self.budget if budget is None else budget, task)
        return _execute(prepared, Instrument())

    def kill(self, name: str, step: int) -> int:
        """Start a run in another process, which is killed at a step. Return its exit status.

        The output of the process is in killed.log in the run's folder.
        """
        prepared = self._prepare(name, 0, self.budget, Sums)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)  # the fork server is shared by all sessions of this process
        arguments = (prepared.config.model_dump_json(), str(self.folder / name), step)
        child = context.Process(target=_execute_and_kill, args=arguments)
        child.start()
        child.join()
        assert child.exitcode is not None
        return child.exitcode

    def _prepare(self, name: str, seed: int, budget: int, task: type[Sums]) -> PreparedRun:
        fields = {
            "method": self.name,
            "task": f"{task.__module__}:{task.__name__}",
            "model": MODEL,
            "budget": str(budget),
            "gate": "off",  # it draws its items from the seed, so a run would differ where its method does not
            "seed": seed,
            "dtype": "float32",
            "device": "cpu",
            "method_config": dict(self.settings),
        }
        config = RunConfig.model_validate({**fields, **self.options})
        return prepare(config, self.folder / name, ProgressDisplay(quiet=True))


def _execute(prepared: PreparedRun, instrument: Instrument) -> ObservedRun:
    task = prepared.task_data.task
    assert isinstance(task, Sums)
    method = InstrumentedMethod(prepared.method, instrument)

    def wrap(engine: Any) -> Any:
        method.engine = InstrumentedEngine(engine, instrument, prepared.task_data)
        return method.engine

    instrument.protect(prepared.task_data)
    task.instrument = instrument
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of libraries
        result = execute(replace(prepared, method=method), ProgressDisplay(quiet=True), wrap_engine=wrap)  # type: ignore[arg-type]
    return ObservedRun(prepared, result, instrument)


def _execute_and_kill(config: str, output: str, step: int) -> None:
    """Execute a run and kill this process at a step. Runs in a child process."""
    path = Path(output)
    path.mkdir(parents=True, exist_ok=True)
    log = os.open(path / LOG, os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    _execute(
        prepare(RunConfig.model_validate_json(config), path, ProgressDisplay(quiet=True)), Instrument(kill_at=step)
    )


def _answers(folder: Path) -> str:
    """Return the hash of a run's samples without their seed."""
    lines = (sample.model_dump_json(exclude={"seed"}) for sample in read_samples(folder))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
