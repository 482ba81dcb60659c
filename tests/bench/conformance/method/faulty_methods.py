"""Methods that sit the exam in tests: a sound one, and others that each have one defect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from bench.compute.meter import OverBudget
from bench.conformance.method.instrument import TestSplitAccess
from bench.registry import load_task
from bench.seeds import derive
from bench.weights.points import Point
from methods.interface import Artifact, Context, Deployment, Evaluation, Method, MethodConfig, Plan, PlanLine, Refused
from methods.interface import SingleModel as Model
from tasks.interface import TaskTraits

SIGMA = 0.01


class Sound(Method):
    """Keeps the best of a few perturbations."""

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


class Idle(Sound):
    """Draws nothing, which is no defect."""

    def adapt(self, context: Context) -> Artifact:
        return Model()


class Hesitant(Sound):
    """Finds out on the way that its budget is too small, which is no defect."""

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        if context.budget < 200 * context.evaluation_flops:
            raise Refused("that is too little")
        return super().adapt(context)


class Restless(Sound):
    """Draws noise that no seed names."""

    def draw(self, context: Context, number: int) -> Point:
        return Point({int(np.random.default_rng().integers(1 << 62)): SIGMA})


class Stubborn(Sound):
    """Draws the same noise whatever the seed."""

    def draw(self, context: Context, number: int) -> Point:
        return Point({number: SIGMA})


class Superstitious(Sound):
    """Works with one seed and with no other."""

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        if context.seed:
            raise ZeroDivisionError("on purpose")
        return super().adapt(context)


class Crashing(Sound):
    """Fails half way."""

    def adapt(self, context: Context) -> Artifact:
        super().adapt(context)
        raise ZeroDivisionError("on purpose")


class Overdrawn(Sound):
    """Goes on although it was stopped."""

    def adapt(self, context: Context) -> Artifact:
        while True:
            try:
                context.evaluate(self.draw(context, 0), "support", account="sample")
            except OverBudget:
                return Model()


class Lavish(Sound):
    """Does not see its budget end, and is left with nothing where it is small."""

    def look(self, context: Context, point: Point) -> Evaluation:
        return context.evaluate(point, "support", account="sample", examples=range(20))


class Forging(Sound):
    """Lifts its own limit where that is small."""

    def adapt(self, context: Any) -> Artifact:
        context._evaluator.meter.limit = 10**12
        return super().adapt(context)


class Curious(Sound):
    """Asks for the test split."""

    def adapt(self, context: Any) -> Artifact:
        context.evaluate(Point(), "test", account="sample", examples=range(1))
        return Model()


class Sly(Sound):
    """Has the engine answer a test prompt behind the context's back, and goes on when it is stopped."""

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


class Reading(Sound):
    """Loads the data for itself."""

    def adapt(self, context: Any) -> Artifact:
        context._evaluator.task.load()
        return Model()


class Cramming(Sound):
    """Trains on the gate split."""

    def adapt(self, context: Any) -> Artifact:
        training = context.train(context.remaining)
        training.tokenizer  # noqa: B018, sets it up
        prompt = context._evaluator.prompt(context._examples["gate"][0])
        with training.metered():
            training.model(input_ids=torch.tensor([prompt]))
        return Model()


class Forgetful(Sound):
    """Deploys a model and loads another."""

    def adapt(self, context: Context) -> Artifact:
        super().adapt(context)
        return Disguised(Point({derive(context.seed, "disguise"): 0.05}))


class Disguised(Model):
    """Answers by a point far off, and is loaded at the base."""

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        return cls(Point())


class Moonlighting(Sound):
    """Runs the model where no meter hangs."""

    def adapt(self, context: Any) -> Artifact:
        context._evaluator.engine._model(torch.tensor([[1, 2, 3]]))
        return super().adapt(context)


class Unbilled(Sound):
    """Trains a copy of its own."""

    def adapt(self, context: Any) -> Artifact:
        model, _ = context._evaluator.engine.trainable()
        model(input_ids=torch.tensor([[1, 2, 3]]))
        return super().adapt(context)


class Silent(Sound):
    """Refuses without a word."""

    def supports(self, task: TaskTraits) -> str | None:
        return None if task.sizes["gate"] else ""


class Boastful(Sound):
    """Says that it can do with any task, and cannot."""

    def adapt(self, context: Context) -> Artifact:
        context.evaluate(Point(), "gate", account="gate", examples=range(1), allowance=context.remaining)
        return super().adapt(context)


class Promising(Sound):
    """Plans to spend more than it is given."""

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        return Plan((PlanLine("sample", "perturbations", 2 * evaluations),))


class Lenient(Sound):
    """Takes any setting."""

    class Config(MethodConfig, extra="ignore"):
        """Nothing."""


class Demanding(Sound):
    """Takes any setting beside one that has to be given."""

    class Config(MethodConfig, extra="ignore"):
        """One without a default."""

        sigma: float


class Diarist(Sound):
    """Keeps track of what it has done by itself, and skips that when it begins again."""

    def adapt(self, context: Any) -> Artifact:
        self.diary = context._evaluator.journal.path.parent / "diary.json"
        self.done = json.loads(self.diary.read_text()) if self.diary.exists() else []
        return super().adapt(context)

    def look(self, context: Context, point: Point) -> Evaluation:
        if point.digest in self.done:
            return Evaluation(np.zeros(1), np.zeros(1, dtype=bool), 0)
        found = super().look(context, point)
        self.done.append(point.digest)
        self.diary.write_text(json.dumps(self.done))
        return found


class Heavy(Sound):
    """Leaves its mark on the base."""

    def adapt(self, context: Any) -> Artifact:
        artifact = super().adapt(context)
        context._evaluator.engine.move_to(Point())
        with torch.inference_mode():
            next(context._evaluator.engine._model.parameters()).mul_(1.0 + 1e-6)
        return artifact


class Wordy(Sound):
    """Deploys something of its own, soundly."""

    def adapt(self, context: Context) -> Mapping[str, Artifact]:
        return {"plain": super().adapt(context), "quoted": Quoted()}  # type: ignore[dict-item]


class Quoted(Artifact):
    """The base's answers with a word before them."""

    def __init__(self, word: str = "so ") -> None:
        self.word, self.report = word, {}

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        return [self.word + text for text in deployment.answer(Point(), examples)]

    def save(self, deployment: Deployment, folder: Path) -> None:
        (folder / "word").write_text(self.word)

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        return cls((folder / "word").read_text())
