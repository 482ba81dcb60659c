"""Evaluation on the test split: once, after adaptation, with base and artifacts scored on the same items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.compute.ledger import Work
from bench.errors import BenchError, Refused
from bench.records.config import RunConfig
from bench.records.files import folder_atomically
from bench.records.schema import AnswerCost, Row
from bench.run.context import DeploymentContext
from bench.run.data import TaskData
from bench.run.evaluator import Evaluator
from bench.run.pass_at_k import coverages
from bench.run.progress import ProgressDisplay
from bench.run.rows import Answers, accuracy, make_row, write_samples
from bench.run.sampling import apply_strategy
from bench.strategy import Strategy
from methods.interface import Artifact, SingleModel


class TestSplit:
    """Evaluates base and artifacts on the test split. The methods return fields of the result.

    Args:
        evaluator: Evaluator for the test task.
        task_data: Tasks and their data.
        config: Configuration of the run.
        folder: Run directory, for samples and artifacts.
        display: Progress display.

    Attributes:
        refused: Reasons for artifacts that were left out, by label.
    """

    __test__ = False  # pytest would otherwise take the class for a group of tests

    def __init__(
        self, evaluator: Evaluator, task_data: TaskData, config: RunConfig, folder: Path, display: ProgressDisplay
    ) -> None:
        self._evaluator, self._traits, self._config, self._folder = evaluator, task_data.traits, config, folder
        self._display = display
        self._examples = task_data.splits.test[: config.limit]
        self.refused: dict[str, str] = {}

    def evaluate_strategy(self, strategy: Strategy, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Evaluate base and artifacts under a test-time strategy. A strategy applies to single models only.

        Raises:
            Refused: If no artifact is a single model.
        """
        # A subclass of SingleModel may define its own way to answer, which the strategy would bypass.
        models = {label: artifact for label, artifact in artifacts.items() if type(artifact) is SingleModel}
        reason = f"it is not one model, and --strategy {self._config.strategy} needs one; use --strategy greedy"
        self.refused.update({label: reason for label in artifacts if label not in models})
        if not models:
            raise Refused(f"artifact of method {self._config.method}: {reason}")
        sampled = {label: apply_strategy(strategy, model, self._traits) for label, model in models.items()}
        outcome = self.evaluate(apply_strategy(strategy, SingleModel(), self._traits), sampled)
        if strategy.kind != "pass":
            return outcome
        deployed = DeploymentContext(self._evaluator, self._examples, self._display)
        base, rows = coverages(self._evaluator, deployed, self._examples, models, strategy.k, self._answer_cost)
        covered = tuple(row.model_copy(update={"coverage": rows[row.label]}) for row in outcome["rows"])
        return outcome | {"base_coverage": base, "rows": covered}

    def evaluate(self, base_model: Artifact, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Evaluate base and artifacts, and save samples and artifacts.

        Args:
            base_model: Base model, with the same strategy as the artifacts.
            artifacts: Artifacts by label.

        Raises:
            BenchError: If there is no artifact, a label is not a valid file name, or an artifact does not return one
                answer per example.
        """
        self._check(artifacts)
        evaluator, examples = self._evaluator, self._examples
        evaluator.announce([])  # drop the points prefetched for the search
        ids = [example.id for example in examples]
        # The base answers first, so that no artifact can influence its answers.
        deployed = DeploymentContext(evaluator, examples, self._display)
        base_texts = base_model.answer(deployed, ids)
        with self._display.stage("scoring: base"):
            base = (base_texts, evaluator.judge(examples, base_texts, "base"))
        base_cost = self._answer_cost(evaluator.meter.ledger["evaluation"], len(ids))
        base_queries = deployed.queries
        deployed.account = "inference"
        answers: dict[str, Answers] = {}
        rows: list[Row] = []
        for label, artifact in artifacts.items():
            deployed.queries, before = set(), evaluator.meter.ledger["inference"]
            texts = artifact.answer(deployed, ids)
            if len(texts) != len(ids) or not all(isinstance(text, str) for text in texts):
                raise BenchError(
                    f"method {self._config.method}: its artifact gave {len(texts)} answers to {len(ids)} examples; "
                    "return one text per example"
                )
            with self._display.stage(f"scoring: {label or self._config.method}"):
                scores = base[1] if texts == base_texts else evaluator.judge(examples, texts, label)
            answers[label] = texts, scores
            cost = self._answer_cost(evaluator.meter.ledger["inference"] - before, len(ids))
            changed = deployed.queries != base_queries or texts != base_texts
            row = make_row(label, base[1], scores, cost, changed=changed, report=artifact.report)
            rows.append(row.model_copy(update={"measures": evaluator.task.measures(examples, texts, scores)}))
        self._save(deployed, artifacts, answers, base)
        judged = [score for score in base[1] if score.status != "infrastructure"]
        return {
            "base": accuracy(judged, len(ids) - len(judged)),
            "base_cost": base_cost,
            "base_measures": evaluator.task.measures(examples, *base),
            "rows": tuple(rows),
        }

    def _check(self, artifacts: Mapping[str, Artifact]) -> None:
        for label in artifacts:
            if not re.fullmatch(r"[\w.=@-]*", label) or set(label) == {"."}:
                raise BenchError(
                    f"method {self._config.method}: {label!r} cannot be a label; use letters, digits and .=@_- only"
                )
        if not artifacts:
            raise BenchError(f"method {self._config.method}: adapt returned no artifact")

    def _save(
        self,
        deployed: DeploymentContext,
        artifacts: Mapping[str, Artifact],
        answers: Mapping[str, Answers],
        base: Answers,
    ) -> None:
        with self._display.stage("saving"):
            write_samples(self._folder / "samples.jsonl", self._examples, self._evaluator.prompt_sha256, answers, base)
            with folder_atomically(self._folder / "artifact") as folder:
                for label, artifact in artifacts.items():
                    (folder / label).mkdir(exist_ok=True)
                    artifact.save(deployed, folder / label)

    def _answer_cost(self, work: Work, examples: int) -> AnswerCost:
        return AnswerCost(
            evaluations=work.evaluations / examples,
            flops=self._evaluator.meter.flops(work) / examples,
            new_tokens=work.decode_tokens / examples,
        )
