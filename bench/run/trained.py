"""Models that were made before: the artifacts of a finished run, or a model that was trained elsewhere.

A test answers a task with them, under a prompt and a strategy, and adapts nothing. Base and artifacts answer the same
items. What the adaptation cost, and what the gate decided about it, are carried over from the source run.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.compute.ledger import Account
from bench.errors import BenchError, Refused, UsageError
from bench.models.source import PreparedModel
from bench.records.rows import GateRecord, Move, Row
from bench.records.schema import AccountRow, BudgetInfo, Result
from bench.records.source import DeclaredSource
from bench.records.tuning import DECLARED
from bench.registry import load_method
from bench.run.attempt import Attempt
from bench.run.evaluator import Evaluator
from bench.run.prepare import Prepared
from bench.run.progress import ProgressDisplay
from bench.run.test_split import TestSplit, deploy
from bench.run.timekeeper import Phase, Timekeeper
from bench.weights.noise import Noise
from methods.interface import Artifact, Method, SingleModel
from methods.sampling import SampledAnswers
from tasks.interface import Task

TESTED: Sequence[Account] = ("evaluation", "inference")
"""Accounts of a test itself. All others are those of the source run."""


@dataclass(frozen=True)
class RunArtifacts:
    """The artifacts of a finished run.

    Attributes:
        folder: Run directory.
        result: Record of the run, priced under the present FLOPs formula.
    """

    folder: Path
    result: Result

    @property
    def ruleset(self) -> str:
        """Rules that the source run was made by."""
        return self.result.ruleset

    @property
    def budget(self) -> BudgetInfo | None:
        """Budget of the source run."""
        return self.result.budget

    @property
    def ledger(self) -> dict[Account, AccountRow]:
        """Accounts of the source run's adaptation."""
        return {name: row for name, row in self.result.ledger.items() if name not in TESTED}

    @property
    def decisions(self) -> dict[str, GateRecord]:
        """Decisions of the source run's gate by label."""
        return {row.label: row.gate for row in self.result.gated if row.gate}

    @property
    def ungated(self) -> str | None:
        """Reason why the source run has no gated rows."""
        return self.result.ungated

    @property
    def passes(self) -> float:
        """Answers of the base that an answer of each artifact costs, summed over the artifacts."""
        base = self.result.base.cost.evaluations if self.result.base else 0.0
        return sum(row.cost.evaluations for row in self.result.artifacts) / (base or 1.0)

    def load(self, base: str, folder: Path) -> Mapping[str, Artifact]:
        """Return the artifacts by label, as the run's method returned them.

        Args:
            base: Digest of the base's weights.
            folder: Run directory of the test; not used.

        Raises:
            BenchError: If one cannot be loaded, or the base is another one.
        """
        saved, model = self.result.saved, self.result.model
        assert saved is not None
        assert model is not None
        if base != model.digest:
            raise Refused(
                f"{self.folder}: its base has the weights {model.digest[:12]}, and this one has {base[:12]}; test it "
                "with the model and the --dtype that it began from"
            )
        sampled = self.result.config.strategy.startswith(("maj@", "bon@"))
        found = {}
        for label, name in saved.classes.items():
            artifact = _artifact_class(name).load(self.folder / "artifact" / label, base)
            # Under a strategy a run saves the model together with its choice among samples.
            artifact = artifact.model if sampled and isinstance(artifact, SampledAnswers) else artifact
            if type(artifact) is SingleModel and artifact.point.digest == base:
                artifact = SingleModel(prompt=artifact.prompt)  # a method that returned the base
            found[label] = artifact
        return found

    def moved(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Return the rows of a test with the moves that the source run recorded for the same weights."""
        known: dict[str | None, Move | None] = {row.weights: row.move for row in self.result.rows if row.weights}
        return tuple(row.model_copy(update={"move": known.get(row.weights)}) for row in rows)


@dataclass(frozen=True)
class DeclaredModel:
    """A model that was trained elsewhere, from the same base.

    Attributes:
        source: Where it is, and the FLOPs that its maker declares.
        model: Its checkpoint on this machine.
        dtype: Dtype that it is tested in.
    """

    source: DeclaredSource
    model: PreparedModel
    dtype: str
    ruleset: str = DECLARED
    budget: BudgetInfo | None = None
    ledger: dict[Account, AccountRow] = field(default_factory=dict)
    decisions: dict[str, GateRecord] = field(default_factory=dict)
    ungated: str | None = "the model was trained elsewhere"
    passes: float = 1.0

    def load(self, base: str, folder: Path) -> Mapping[str, Artifact]:
        """Return the model. Its weights are written to the test's folder, in the names and the dtype of the base.

        Args:
            base: Digest of the base's weights; not used, since any base of the same shape will do.
            folder: Run directory of the test.

        Raises:
            UsageError: If the folder does not hold exactly the model's weights.
        """
        import torch

        from bench.models.opening import open_model
        from bench.models.tensors import held
        from bench.weights.checkpoint import write_checkpoint

        model = open_model(Path(self.model.path), getattr(torch, self.dtype))
        return {"": SingleModel(write_checkpoint(folder / "declared", held(model)))}

    def moved(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Return the rows of a test. The move of such a model is not known."""
        return rows


@dataclass(frozen=True, kw_only=True)
class PreparedTest(Prepared):
    """Test that is ready to start: see `Prepared`.

    Attributes:
        trained: What it tests.
    """

    trained: RunArtifacts | DeclaredModel

    @property
    def ruleset(self) -> str:
        """Rules that the tested model was made by."""
        return self.trained.ruleset

    @property
    def drafts(self) -> int:
        """Maximum number of earlier answers that a question shows, by the method of the source run."""
        return 0 if (method := self._method) is None else method.drafts

    @property
    def noise(self) -> Noise | None:
        """Noise that the seeds of the artifact's points stand for, by the method of the source run."""
        return None if (method := self._method) is None else method.config.drawn

    @property
    def _method(self) -> Method | None:
        """Method of the source run; None if it is not known here, so that the artifact alone is tested."""
        if isinstance(self.trained, DeclaredModel):
            return None
        try:
            found = load_method(self.config.method)
            return found(found.Config.model_validate(self.config.method_config))
        except (UsageError, ValidationError):  # not installed, or of an earlier version
            return None


def run_test(attempt: Attempt, prepared: PreparedTest) -> tuple[Row, ...]:
    """Test artifacts that were made before, and return the rows. What their adaptation cost is carried over."""
    trained, facts, display = prepared.trained, attempt.facts, attempt.display
    facts.budget, facts.ledger, facts.ungated = trained.budget, trained.ledger, trained.ungated
    evaluator = attempt.load(prepared.task_data.task)
    _keep_time(prepared, evaluator, display)
    with display.stage("loading the artifact"), attempt.clock.span("loading"):
        artifacts = trained.load(evaluator.engine.digest, prepared.folder)
        _check_prompts(artifacts, prepared.task_data.task)
    deployed = deploy(artifacts, prepared.config, prepared.strategy, prepared.task_data.traits)
    facts.untested = deployed.untested
    test_split = TestSplit(evaluator, prepared.task_data, prepared.config, prepared.folder, display)
    return trained.moved(test_split.evaluate(deployed, trained.decisions))


def _keep_time(prepared: PreparedTest, evaluator: Evaluator, display: ProgressDisplay) -> None:
    """Show how long the test will take. Its work is counted in evaluations, as no calibration priced them."""
    tested = len(prepared.task_data.splits.test[: prepared.config.limit])
    base, passes = (prepared.strategy.k if prepared.strategy else 1) * tested, prepared.trained.passes
    phases = [
        Phase("answers", ("evaluation",), base),
        Phase("answers", ("inference",), passes * base, follows=True, times=passes),
    ]
    what = f"{tested:,} test items"
    display.keep_time(Timekeeper(evaluator.meter, evaluator.journal, phases, lambda work: work.evaluations, what=what))


def _check_prompts(artifacts: Mapping[str, Artifact], task: Task) -> None:
    """Check that a task has the prompts that single models were adapted with.

    Raises:
        Refused: If it lacks one.
    """
    for artifact in artifacts.values():
        if isinstance(artifact, SingleModel) and artifact.prompt not in task.prompts:
            raise Refused(
                f"the artifact answers under the prompt {artifact.prompt!r}, and task {task.name} has "
                f"{', '.join(task.prompts)}; test it on the task that it was adapted on"
            )


def _artifact_class(name: str) -> type[Artifact]:
    """Return the class of an artifact, given as module and name.

    Raises:
        BenchError: If there is no such class of artifacts.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise BenchError(
            f"artifact class {name}: cannot be imported ({error}); install the package that has it"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Artifact)):
        raise BenchError(f"artifact class {name}: not a class of artifacts (methods.interface.Artifact)")
    return found
