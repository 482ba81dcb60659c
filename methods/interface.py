"""What a method is: a configuration, a plan, and an adaptation that ends in an artifact.

A method sees a model only through its `Context`. It is handed neither the engine nor the meter nor the test split, so
what it spends is counted by others and what it is judged on is unknown to it. This keeps honest methods honest; it is
no wall against code that means to cheat, which runs in the same process. The harness checks what it can afterwards.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bench.compute.ledger import AdaptationAccount
from bench.records.files import write_atomically
from bench.weights.noise import NOISE_VERSION
from bench.weights.points import Point

AdaptationSplit = Literal["support", "select", "gate"]


class MethodConfig(BaseModel):
    """Base of every method's configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class PlanLine:
    """One planned phase.

    Attributes:
        account: Where it will be booked.
        what: The phase, in a few words.
        evaluations: Model-prompt evaluations it is planned to take.
    """

    account: AdaptationAccount
    what: str
    evaluations: int


@dataclass(frozen=True)
class Plan:
    """How a method would spend a budget; an estimate, while the meter decides.

    Attributes:
        lines: Phases in order.
        notes: What the budget makes the method leave out, in sentences.
    """

    lines: tuple[PlanLine, ...]
    notes: tuple[str, ...] = ()

    @property
    def evaluations(self) -> int:
        """Model-prompt evaluations in all."""
        return sum(line.evaluations for line in self.lines)


@dataclass(frozen=True)
class Evaluation:
    """What evaluating one point on some examples gave.

    Attributes:
        rewards: float64 [examples], shaped rewards; NaN where the judge could not judge.
        correct: bool [examples]; False where the judge could not judge.
        flops: Adaptation FLOPs it took.
        complete: False if the allowance ran out first; the arrays are then empty, and what it took is spent.
    """

    rewards: NDArray[np.float64]
    correct: NDArray[np.bool_]
    flops: int
    complete: bool = True

    @property
    def reward(self) -> float:
        """Mean reward over the examples that could be judged; NaN if none could."""
        judged = self.rewards[~np.isnan(self.rewards)]
        return float(judged.mean()) if judged.size else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correct answers among the examples that could be judged; NaN if none could."""
        judged = ~np.isnan(self.rewards)
        return float(self.correct[judged].mean()) if judged.any() else float("nan")


class Stage(Protocol):
    """One phase on the progress display."""

    def advance(self, score: float | None = None) -> None:
        """Count one step done; a score enters the live best."""


class Context(Protocol):
    """Everything a method may touch while it adapts.

    Attributes:
        seed: The run's seed; derive every random stream from it with `bench.seeds.derive`.
        sizes: Examples available by split.
        evaluation_flops: Measured cost of the base model answering one prompt of this task.
    """

    seed: int
    sizes: dict[str, int]
    evaluation_flops: float

    @property
    def budget(self) -> int:
        """Adaptation FLOPs in all."""

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs left."""

    def evaluate(
        self,
        point: Point,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        size: int | None = None,
        allowance: int | None = None,
    ) -> Evaluation:
        """Let the model at a point answer the first `size` examples of a split, greedily, and score the answers.

        Args:
            point: Where in weight space.
            split: Which examples.
            account: Where the work is booked.
            size: How many examples, from the start of the split's fixed order; None for all.
            allowance: FLOPs this may take; beyond it the evaluation comes back incomplete.

        Raises:
            bench.compute.meter.OverBudget: If the budget does not cover it. Not to be caught: nothing works after it.
        """

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[Stage]:
        """Show a phase of so many steps (None if unknown) on the progress display."""


class Deployment(Protocol):
    """The model as an artifact answers with it; every answer is metered as inference."""

    def answer(self, point: Point, examples: Sequence[str]) -> list[str]:
        """Let the model at a point answer the test examples of these ids, greedily."""

    def save_checkpoint(self, point: Point, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""


class Artifact(ABC):
    """What a method would deploy.

    Attributes:
        report: What the method wants on record about how it got there, as plain JSON values.
    """

    report: dict[str, Any]

    @abstractmethod
    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Return one final answer an example, in order. What it takes is what one answer costs.

        Args:
            deployment: Poses the examples to the model.
            examples: Ids of the test examples; neither prompt nor gold answer comes with them.
        """

    @abstractmethod
    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write everything needed to deploy it into an empty folder."""


@dataclass(frozen=True)
class SingleModel(Artifact):
    """One model at a point of weight space: an answer costs one forward pass, as the base's does.

    Attributes:
        point: Where; `Point()` is the base.
        report: See `Artifact`.
    """

    point: Point = field(default_factory=Point)
    report: dict[str, Any] = field(default_factory=dict)

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Answer each example once."""
        return deployment.answer(self.point, examples)

    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write a checkpoint that `AutoModelForCausalLM.from_pretrained` opens, and the point it was built from."""
        deployment.save_checkpoint(self.point, folder)
        direction = {"noise": NOISE_VERSION, "amplitudes": {str(s): a for s, a in self.point.amplitudes.items()}}
        write_atomically(folder / "point.json", json.dumps(direction, indent=1) + "\n")


class Method(ABC):
    """A post-training method.

    Attributes:
        name: What `--method` takes.
        version: Rises with any change that can change an outcome; part of a run's identity.
        Config: Validated configuration; every default names its source.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def supports(self, sizes: dict[str, int]) -> str | None:
        """Return the reason why this method cannot run on splits of these sizes, or None if it can."""
        return None

    @abstractmethod
    def plan(self, evaluations: int, sizes: dict[str, int]) -> Plan:
        """Return how the method would spend a budget of so many evaluations on splits of these sizes."""

    @abstractmethod
    def adapt(self, context: Context) -> Artifact:
        """Spend the budget; return what to deploy. Deterministic given the context's answers."""
