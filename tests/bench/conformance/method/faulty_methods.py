"""Methods for tests of the conformance checks: correct ones, and variants with one defect each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from bench.compute.meter import OverBudget
from bench.conformance.method.instrument import TestSplitAccess
from bench.conformance.method.task import Sums
from bench.engines.ragged import RaggedBatch
from bench.registry import load_task
from bench.seeds import derive
from bench.weights.points import Point
from methods.interface import Artifact, Context, Deployment, Evaluation, Method, MethodConfig, Plan, PlanLine, Refused
from methods.interface import SingleModel as Model
from tasks.interface import TaskTraits

SIGMA = 0.01


class Sound(Method):
    """Correct method: return the best of a few perturbations."""

    name = "sound"
    version = "1"

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        return Plan((PlanLine("sample", "perturbations", evaluations),))

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        best, reward = Point(), -1.0
        for number in range(4):
            point = self.draw(context, number)
            found = self.look(context, point)
            if not found.complete:
                break
            best, reward = max((best, reward), (point, found.reward), key=lambda pair: pair[1])
        context.report["best"] = best.digest
        return Model(best)

    def draw(self, context: Context, number: int) -> Point:
        return Point({derive(context.seed, "sound", number): SIGMA})

    def look(self, context: Context, point: Point) -> Evaluation:
        return context.evaluate(
            point, "support", account="sample", examples=range(20), allowance=max(context.remaining, 0)
        )


class NoRandomness(Sound):
    """Correct method without randomness."""

    def adapt(self, context: Context) -> Artifact:
        return Model()


class RefusesMidway(Sound):
    """Correct method that refuses a small budget only during the run."""

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        if context.budget < 200 * context.evaluation_flops:
            raise Refused("that is too little")
        return super().adapt(context)


class UnseededNoise(Sound):
    """Defect: the noise does not derive from the seed."""

    def draw(self, context: Context, number: int) -> Point:
        return Point({int(np.random.default_rng().integers(1 << 62)): SIGMA})


class Steady(MethodConfig):
    """Settings of a method with a variant.

    Attributes:
        noisy: Draw the noise from a generator without a seed.
    """

    noisy: bool = False


class UnseededVariant(Sound):
    """Defect: with one setting, the noise does not derive from the seed."""

    Config = Steady
    variants = ({"noisy": True},)

    def draw(self, context: Context, number: int) -> Point:
        return (UnseededNoise if self.config.noisy else Sound).draw(self, context, number)


class IgnoresSeed(Sound):
    """Defect: the noise is the same for every seed."""

    def draw(self, context: Context, number: int) -> Point:
        return Point({number: SIGMA})


class FailsOnOtherSeed(Sound):
    """Defect: the method works with seed 0 only."""

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        if context.seed:
            raise ZeroDivisionError("on purpose")
        return super().adapt(context)


class Crashing(Sound):
    """Defect: the method raises an error."""

    def adapt(self, context: Context) -> Artifact:
        super().adapt(context)
        raise ZeroDivisionError("on purpose")


class IgnoresStop(Sound):
    """Defect: the method catches OverBudget and continues."""

    def adapt(self, context: Context) -> Artifact:
        while True:
            try:
                context.evaluate(self.draw(context, 0), "support", account="sample")
            except OverBudget:
                return Model()


class IgnoresAllowance(Sound):
    """Defect: the method ignores the remaining budget, and fails on small budgets."""

    def look(self, context: Context, point: Point) -> Evaluation:
        return context.evaluate(point, "support", account="sample", examples=range(20))


class RaisesLimit(Sound):
    """Defect: the method raises its own budget limit."""

    def adapt(self, context: Any) -> Artifact:
        context._evaluator.meter.limit = 10**12
        return super().adapt(context)


class EvaluatesOnTest(Sound):
    """Defect: the method evaluates on the test split."""

    def adapt(self, context: Any) -> Artifact:
        context.evaluate(Point(), "test", account="sample", examples=range(1))
        return Model()


class BypassesContext(Sound):
    """Defect: the method passes a test prompt directly to the engine, and continues after the error."""

    def adapt(self, context: Any) -> Artifact:
        evaluator = context._evaluator
        task = load_task("bench.conformance.method.task:Sums")
        prompts = [evaluator.engine.encode(task.messages(example)) for example in task.load().test[:4]]
        with evaluator.meter.account("sample"):
            try:
                evaluator.engine.generate(prompts, evaluator.sampling, evaluator.meter)
            except TestSplitAccess:
                return super().adapt(context)
        raise AssertionError("a test prompt was answered")


class LoadsData(Sound):
    """Defect: the method loads the task's data itself."""

    def adapt(self, context: Any) -> Artifact:
        context._evaluator.task.load()
        return Model()


class TrainsOnGate(Sound):
    """Defect: the method trains on the gate split, which it gets around the context."""

    def adapt(self, context: Any) -> Artifact:
        training = context.train(context.remaining)
        training.tokenizer  # noqa: B018, sets it up
        prompt = context._evaluator.prompt(Sums().load().gate[0])
        with training.metered():
            training.model(input_ids=torch.tensor([prompt]))
        return Model()


class LoadsAnotherModel(Sound):
    """Defect: the artifact loads as another model than the one saved."""

    def adapt(self, context: Context) -> Artifact:
        super().adapt(context)
        return LoadsAsBase(Point({derive(context.seed, "disguise"): 0.05}))


class LoadsAsBase(Model):
    """Artifact at a distant point that loads as the base."""

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        return cls(Point())


class UnmeteredModel(Sound):
    """Defect: the method runs the model without the meter."""

    def adapt(self, context: Any) -> Artifact:
        batch = RaggedBatch(context._evaluator.engine._model, 1)
        with torch.inference_mode():
            batch.run(batch.enter([[1, 2, 3]], []))
        return super().adapt(context)


class UnmeteredTraining(Sound):
    """Defect: the method runs a trainable copy without the meter."""

    def adapt(self, context: Any) -> Artifact:
        model, _ = context._evaluator.engine.trainable()
        model(input_ids=torch.tensor([[1, 2, 3]]))
        return super().adapt(context)


class TrainsUnannounced(Sound):
    """Defect: the method runs a trainable copy, and `trains` does not say so."""

    def adapt(self, context: Any) -> Artifact:
        found = super().adapt(context)
        training = context.train(context.remaining)
        if training.finished is None:
            training.tokenizer  # noqa: B018, sets it up
            with training.metered():
                training.model(input_ids=torch.tensor([training.prompts[0].token_ids]))
            training.finish({})
        return found


class RefusesWithoutReason(Sound):
    """Defect: the method refuses with an empty reason."""

    def supports(self, task: TaskTraits) -> str | None:
        return None if task.sizes["select"] else ""


class ClaimsSupport(Sound):
    """Defect: the method claims to support every task, but needs a select split."""

    def adapt(self, context: Context) -> Artifact:
        context.evaluate(Point(), "select", account="select", examples=range(1), allowance=context.remaining)
        return super().adapt(context)


class PlansTooMuch(Sound):
    """Defect: the plan exceeds the budget."""

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        return Plan((PlanLine("sample", "perturbations", 2 * evaluations),))


class AcceptsAnySetting(Sound):
    """Defect: unknown settings are accepted."""

    class Config(MethodConfig, extra="ignore"):
        """No settings."""


class RequiredSetting(Sound):
    """Defect: unknown settings are accepted, in addition to a required one."""

    class Config(MethodConfig, extra="ignore"):
        """One setting without a default."""

        sigma: float


class KeepsOwnState(Sound):
    """Defect: the method stores its own progress, and skips finished work when resumed."""

    def adapt(self, context: Any) -> Artifact:
        self.state_file = context._evaluator.journal.path.parent / "own-state.json"
        self.done = json.loads(self.state_file.read_text()) if self.state_file.exists() else []
        return super().adapt(context)

    def look(self, context: Context, point: Point) -> Evaluation:
        if point.digest in self.done:
            return Evaluation(np.zeros(1), np.zeros(1, dtype=bool), 0)
        found = super().look(context, point)
        self.done.append(point.digest)
        self.state_file.write_text(json.dumps(self.done))
        return found


class ChangesBase(Sound):
    """Defect: the method changes the base weights in memory."""

    def adapt(self, context: Any) -> Artifact:
        artifact = super().adapt(context)
        context._evaluator.engine.move_to(Point())
        with torch.inference_mode():
            next(context._evaluator.engine._model.parameters()).mul_(1.0 + 1e-6)
        return artifact


class CustomArtifact(Sound):
    """Correct method with its own type of artifact."""

    def adapt(self, context: Context) -> Mapping[str, Artifact]:
        return {"plain": super().adapt(context), "quoted": PrefixedAnswers()}  # type: ignore[dict-item]


class PrefixedAnswers(Artifact):
    """Artifact that puts a word before the base's answers."""

    def __init__(self, word: str = "so ") -> None:
        self.word, self.report = word, {}

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        return [self.word + text for text in deployment.answer(Point(), examples)]

    def save(self, deployment: Deployment, folder: Path) -> None:
        (folder / "word").write_text(self.word)

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        return cls((folder / "word").read_text())
