"""The test: base and artifacts answer the test split once, after adaptation, and are judged on the same items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.compute.ledger import Work
from bench.errors import BenchError, Refused
from bench.records.files import folder_atomically
from bench.records.schema import AnswerCost, Row, RunConfig
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
    """Reads the test split. What it returns are fields of the result.

    Args:
        evaluator: For the task that is tested on.
        task_data: Data.
        config: Of the run.
        folder: Where samples and artifacts go.
        display: Shows stages.

    Attributes:
        refused: Why artifacts were left out, by label.
    """

    def __init__(
        self, evaluator: Evaluator, task_data: TaskData, config: RunConfig, folder: Path, display: ProgressDisplay
    ) -> None:
        self._evaluator, self._traits, self._config, self._folder = evaluator, task_data.traits, config, folder
        self._display = display
        self._examples = task_data.splits.test[: config.limit]
        self.refused: dict[str, str] = {}

    def apply_strategy(self, strategy: Strategy, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Test base and artifacts under a strategy, which can be applied to one model and to nothing else.

        Raises:
            Refused: If none of them is one model.
        """
        # A subclass may answer in a way of its own, which the strategy would put aside.
        models = {label: artifact for label, artifact in artifacts.items() if type(artifact) is SingleModel}
        reason = f"it is not one model, and --strategy {self._config.strategy} needs answers of one; test it greedily"
        self.refused.update({label: reason for label in artifacts if label not in models})
        if not models:
            raise Refused(f"method {self._config.method}, what it deploys: {reason}")
        asked = {label: apply_strategy(strategy, model, self._traits) for label, model in models.items()}
        outcome = self.of(apply_strategy(strategy, SingleModel(), self._traits), asked)
        if strategy.kind != "pass":
            return outcome
        deployed = DeploymentContext(self._evaluator, self._examples, self._display)
        base, rows = coverages(self._evaluator, deployed, self._examples, models, strategy.k, self._answer_cost)
        covered = tuple(row.model_copy(update={"coverage": rows[row.label]}) for row in outcome["rows"])
        return outcome | {"base_coverage": base, "rows": covered}

    def of(self, as_base: Artifact, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Test base and artifacts, and save samples and artifacts.

        Args:
            as_base: The base, asked as the artifacts are.
            artifacts: By label.

        Raises:
            BenchError: If there are none, a label is no file name, or an artifact answers too few examples.
        """
        self._check(artifacts)
        evaluator, examples = self._evaluator, self._examples
        evaluator.expect([])  # what was made for the search is not needed any more
        ids = [example.id for example in examples]
        # The base answers first, so that no artifact can put words in its mouth.
        deployed = DeploymentContext(evaluator, examples, self._display)
        base_texts = as_base.answer(deployed, ids)
        with self._display.stage("scoring: base"):
            base = (base_texts, evaluator.judge(examples, base_texts, "base"))
        base_cost = self._answer_cost(evaluator.meter.ledger["evaluation"], len(ids))
        as_base_asked = deployed.asked
        deployed.account = "inference"
        answers: dict[str, Answers] = {}
        rows: list[Row] = []
        for label, artifact in artifacts.items():
            deployed.asked, before = set(), evaluator.meter.ledger["inference"]
            texts = artifact.answer(deployed, ids)
            if len(texts) != len(ids) or not all(isinstance(text, str) for text in texts):
                raise BenchError(
                    f"method {self._config.method}: its artifact gave {len(texts)} answers to {len(ids)} examples"
                )
            with self._display.stage(f"scoring: {label or self._config.method}"):
                scores = base[1] if texts == base_texts else evaluator.judge(examples, texts, label)
            answers[label] = texts, scores
            cost = self._answer_cost(evaluator.meter.ledger["inference"] - before, len(ids))
            changed = deployed.asked != as_base_asked or texts != base_texts
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
                raise BenchError(f"method {self._config.method}: {label!r} is no label; letters, digits and .=@_- are")
        if not artifacts:
            raise BenchError(f"method {self._config.method}: adapt returned nothing to deploy")

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
