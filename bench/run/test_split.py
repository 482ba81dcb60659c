"""Evaluation on the test split: once, after adaptation, with base and artifacts scored on the same items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import BenchError, Refused
from bench.records.config import RunConfig
from bench.records.files import folder_atomically
from bench.records.pricing import answer_cost
from bench.records.rows import Row
from bench.run.context import DeploymentContext
from bench.run.data import TaskData
from bench.run.evaluator import Evaluator
from bench.run.pass_at_k import coverages
from bench.run.progress import ProgressDisplay
from bench.run.rows import Answered, make_rows, write_samples
from bench.run.sampling import apply_strategy
from bench.strategy import Strategy
from methods.interface import Artifact, SingleModel


class TestSplit:
    """Evaluates base and artifacts on the test split. The methods return the rows of the result.

    Args:
        evaluator: Evaluator for the test task.
        task_data: Tasks and their data.
        config: Configuration of the run.
        folder: Run directory, for samples and artifacts.
        display: Progress display.

    Attributes:
        untested: Reasons for the artifacts that the strategy does not apply to, by label.
    """

    __test__ = False  # pytest would otherwise take the class for a group of tests

    def __init__(
        self, evaluator: Evaluator, task_data: TaskData, config: RunConfig, folder: Path, display: ProgressDisplay
    ) -> None:
        self._evaluator, self._traits, self._config, self._folder = evaluator, task_data.traits, config, folder
        self._display = display
        self._examples = task_data.splits.test[: config.limit]
        self.untested: dict[str, str] = {}

    def evaluate_strategy(self, strategy: Strategy, artifacts: Mapping[str, Artifact]) -> tuple[Row, ...]:
        """Evaluate base and artifacts under a test-time strategy. A strategy applies to single models only.

        Raises:
            Refused: If no artifact is a single model.
        """
        # A subclass of SingleModel may define its own way to answer, which the strategy would bypass.
        models = {label: artifact for label, artifact in artifacts.items() if type(artifact) is SingleModel}
        reason = f"it is not one model, and --strategy {self._config.strategy} needs one; use --strategy greedy"
        self.untested.update({label: reason for label in artifacts if label not in models})
        if not models:
            raise Refused(f"artifact of method {self._config.method}: {reason}")
        sampled = {label: apply_strategy(strategy, model, self._traits) for label, model in models.items()}
        rows = self.evaluate(apply_strategy(strategy, SingleModel(), self._traits), sampled)
        if strategy.kind != "pass":
            return rows
        deployed = DeploymentContext(self._evaluator, self._examples, self._display)
        found = coverages(self._evaluator, deployed, self._examples, list(models.values()), strategy.k)
        return tuple(row.model_copy(update={"coverage": c}) for row, c in zip(rows, found, strict=True))

    def evaluate(self, base_model: Artifact, artifacts: Mapping[str, Artifact]) -> tuple[Row, ...]:
        """Evaluate base and artifacts, and save samples and artifacts.

        Args:
            base_model: Base model, with the same strategy as the artifacts.
            artifacts: Artifacts by label.

        Returns:
            Rows of the result, the base's first.

        Raises:
            BenchError: If there is no artifact, a label is not a valid file name, or an artifact does not return one
                answer per example.
        """
        self._check(artifacts)
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
        self._save(deployed, artifacts, [base, *answered])
        # The weights of an artifact are known once it is saved.
        weights = [deployed.weights({point for point, _, _ in used}) for used in (asked, *queries)]
        base, *answered = (replace(row, weights=found) for row, found in zip([base, *answered], weights, strict=True))
        return make_rows(base, answered)

    def _answer(
        self, deployed: DeploymentContext, label: str, artifact: Artifact, base: Answered | None = None
    ) -> Answered:
        """Answer and score all test examples. If all answers equal the base's, so do the scores."""
        evaluator, examples, account = self._evaluator, self._examples, deployed.account
        ids = [example.id for example in examples]
        deployed.queries, deployed.answers, before = set(), {}, evaluator.meter.ledger[account]
        texts = artifact.answer(deployed, ids)
        if len(texts) != len(ids) or not all(isinstance(text, str) for text in texts):
            raise BenchError(
                f"method {self._config.method}: its artifact gave {len(texts)} answers to {len(ids)} examples; "
                "return one text per example"
            )
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
            cost=answer_cost(evaluator.meter.shape, work, len(ids)),
            weights=None,
            measures=evaluator.task.measures(examples, texts, scores),
        )

    def _check(self, artifacts: Mapping[str, Artifact]) -> None:
        for label in artifacts:
            if not re.fullmatch(r"[\w.=@-]*", label) or set(label) == {"."}:
                raise BenchError(
                    f"method {self._config.method}: {label!r} cannot be a label; use letters, digits and .=@_- only"
                )
        if not artifacts:
            raise BenchError(f"method {self._config.method}: adapt returned no artifact")

    def _save(self, deployed: DeploymentContext, artifacts: Mapping[str, Artifact], rows: Sequence[Answered]) -> None:
        with self._display.stage("saving"):
            write_samples(self._folder / "samples.jsonl", self._examples, self._evaluator.prompt_sha256, rows)
            with folder_atomically(self._folder / "artifact") as folder:
                for label, artifact in artifacts.items():
                    (folder / label).mkdir(exist_ok=True)
                    artifact.save(deployed, folder / label)
