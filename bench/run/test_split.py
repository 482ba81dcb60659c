"""Evaluation on the test split: once, after adaptation, with base and artifacts scored on the same items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.errors import BenchError, Refused
from bench.records.config import RunConfig
from bench.records.files import folder_atomically, folder_digest
from bench.records.pricing import answer_cost
from bench.records.rows import GateRecord, Row
from bench.records.source import Artifacts
from bench.run.context import DeploymentContext
from bench.run.data import TaskData
from bench.run.endpoint import is_served
from bench.run.evaluator import Evaluator
from bench.run.pass_at_k import coverages
from bench.run.progress import ProgressDisplay
from bench.run.returned import measures_of
from bench.run.rows import Answered, add_gated, answered_rows, checked_answers, make_rows, write_samples
from bench.run.sampling import apply_strategy
from bench.strategy import Strategy, curve_of
from methods.interface import DEFAULT_PROMPT, Artifact, SingleModel, TaskTraits


@dataclass(frozen=True)
class Deployed:
    """Base and artifacts of a run as they answer: alone, or under the test-time strategy.

    Attributes:
        strategy: Test-time strategy; None for greedy answers.
        base: Base model.
        artifacts: Artifacts by label.
        returned: The same artifacts as the method returned them.
        untested: Reasons for the artifacts that the strategy does not apply to, by label.
    """

    strategy: Strategy | None
    base: Artifact
    artifacts: Mapping[str, Artifact]
    returned: Mapping[str, Artifact]
    untested: dict[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> dict[str, Artifact | None]:
        """The artifacts for the gate: None where the method returned the base as it is."""
        return {label: None if _is_base(self.returned[label]) else each for label, each in self.artifacts.items()}


def _is_base(artifact: Artifact) -> bool:
    return type(artifact) is SingleModel and artifact.point.is_base and artifact.prompt == DEFAULT_PROMPT


def deploy(
    adapted: Artifact | Mapping[str, Artifact], config: RunConfig, strategy: Strategy | None, task: TaskTraits
) -> Deployed:
    """Return what a method adapted as it answers. A strategy applies to single models only.

    Raises:
        Refused: If no artifact is a single model, but the strategy needs one.
        BenchError: If there is no artifact, or a label is not a valid file name.
    """
    artifacts = dict(adapted) if isinstance(adapted, Mapping) else {"": adapted}
    _check_labels(artifacts, config.method)
    if strategy is None:
        return Deployed(None, SingleModel(), artifacts, artifacts)
    # A subclass of SingleModel may define its own way to answer, which the strategy would bypass.
    models = {label: artifact for label, artifact in artifacts.items() if type(artifact) is SingleModel}
    reason = f"it is not one model, and --strategy {config.strategy} needs one; use --strategy greedy"
    untested = {label: reason for label in artifacts if label not in models}
    if not models:
        raise Refused(f"artifact of method {config.method}: {reason}")
    sampled = {label: apply_strategy(strategy, model, task) for label, model in models.items()}
    return Deployed(strategy, apply_strategy(strategy, SingleModel(), task), sampled, models, untested)


def _check_labels(artifacts: Mapping[str, Artifact], method: str) -> None:
    for label in artifacts:
        if not re.fullmatch(r"[\w.=@-]*", label) or set(label) == {"."}:
            raise BenchError(f"method {method}: {label!r} cannot be a label; use letters, digits and .=@_- only")
    if not artifacts:
        raise BenchError(f"method {method}: adapt returned no artifact")


class TestSplit:
    """Evaluates base and artifacts on the test split. The methods return the rows of the result.

    Args:
        evaluator: Evaluator for the test task.
        task_data: Tasks and their data.
        config: Configuration of the run.
        folder: Run directory, for samples and artifacts.
        display: Progress display.

    Attributes:
        saved: Artifacts that were saved; None before, and in a test of artifacts that were saved before.
    """

    __test__ = False  # pytest would otherwise take the class for a group of tests

    def __init__(
        self, evaluator: Evaluator, task_data: TaskData, config: RunConfig, folder: Path, display: ProgressDisplay
    ) -> None:
        self._evaluator, self._config, self._folder, self._display = evaluator, config, folder, display
        self._examples = task_data.splits.test[: config.limit]
        self.saved: Artifacts | None = None

    def evaluate(self, deployed: Deployed, decisions: Mapping[str, GateRecord]) -> tuple[Row, ...]:
        """Evaluate base and artifacts, and save samples and artifacts.

        Args:
            deployed: Base and artifacts.
            decisions: Decisions of the gate by label.

        Returns:
            Rows of the result, the base's first, and each artifact's row followed by its gated row.

        Raises:
            BenchError: If an artifact does not return one answer per example.
        """
        rows = self._evaluate(deployed.base, deployed.artifacts, decisions)
        if deployed.strategy is not None and deployed.strategy.kind == "pass":
            view = DeploymentContext(self._evaluator, self._examples, self._display)
            models = [artifact for artifact in deployed.returned.values() if isinstance(artifact, SingleModel)]
            found = coverages(self._evaluator, view, self._examples, models, curve_of(self._config.strategy))
            rows = tuple(
                row.model_copy(update={"coverage": curve[-1], "curve": tuple(curve[:-1])})
                for row, curve in zip(rows, found, strict=True)
            )
        return add_gated(rows, decisions)

    def _evaluate(
        self, base_model: Artifact, artifacts: Mapping[str, Artifact], decisions: Mapping[str, GateRecord]
    ) -> tuple[Row, ...]:
        self._evaluator.announce([])  # drop the points prefetched for the search
        deployed = DeploymentContext(self._evaluator, self._examples, self._display)
        # The base answers first, so that no artifact can influence its answers.
        base, asked = self._answer(deployed, "", base_model), deployed.queries
        answered, queries = [], []
        deployed.account = "inference"
        for label, artifact in artifacts.items():
            now = self._answer(deployed, label, artifact, base)
            changed = deployed.queries != asked or now.texts != base.texts
            answered.append(replace(now, changed=changed, report=artifact.report))
            queries.append(deployed.queries)
        numbers = answered_rows(list(artifacts), decisions)
        self._save(deployed, artifacts, dict(zip(numbers, [base, *answered], strict=True)))
        # The weights of an artifact are known once it is saved.
        saved = [deployed.weights({point for point, _, _ in used}) for used in (asked, *queries)]
        base, *answered = (
            replace(row, weights=weights, move=move)
            for row, (weights, move) in zip([base, *answered], saved, strict=True)
        )
        return make_rows(base, answered)

    def _answer(
        self, deployed: DeploymentContext, label: str, artifact: Artifact, base: Answered | None = None
    ) -> Answered:
        """Answer and score all test examples. If all answers equal the base's, so do the scores."""
        evaluator, examples, account = self._evaluator, self._examples, deployed.account
        ids = [example.id for example in examples]
        deployed.queries, deployed.answers, before = set(), {}, evaluator.meter.ledger[account]
        texts = checked_answers(artifact, deployed, examples, self._config.method)
        name = "base" if base is None else label or self._config.method
        with self._display.stage(f"scoring: {name}"):
            if base is not None and texts == base.texts:
                scores = base.scores
            else:
                scores = evaluator.judge(examples, texts, "base" if base is None else label)
        work = evaluator.meter.ledger[account] - before
        return Answered(
            label=label,
            texts=texts,
            scores=scores,
            generated=[deployed.answers.get((i, text)) for i, text in zip(ids, texts, strict=True)],
            work=work,
            cost=answer_cost(evaluator.meter.profile, work, len(ids)),
            weights=None,
            measures=measures_of(evaluator.task, examples, texts, scores),
        )

    def _save(
        self, deployed: DeploymentContext, artifacts: Mapping[str, Artifact], rows: Mapping[int, Answered]
    ) -> None:
        with self._display.stage("saving"):
            write_samples(self._folder / "samples.jsonl", self._examples, self._evaluator, self._config, rows)
            if self._config.source is not None or is_served(self._config):
                return
            with folder_atomically(self._folder / "artifact") as folder:
                for label, artifact in artifacts.items():
                    (folder / label).mkdir(exist_ok=True)
                    artifact.save(deployed, folder / label)
            classes = {label: f"{type(each).__module__}:{type(each).__qualname__}" for label, each in artifacts.items()}
            self.saved = Artifacts(classes=classes, sha256=folder_digest(self._folder / "artifact"))
