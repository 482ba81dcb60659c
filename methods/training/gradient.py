"""Common base of the gradient methods: plan, training and gate. Each method defines its own step."""

from __future__ import annotations

import math
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from methods.interface import Artifact, Checkpoint, Context, Dimension, Diverged, Method, Plan, SingleModel, Training
from methods.space import Space
from methods.training.config import RolloutConfig, TrainingConfig, TrainingSchedule, describe, make_schedule
from methods.training.curriculum import Curriculum
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop


class GradientMethod(Method):
    """Train a copy of the base on the support split.

    Attributes:
        batch: Default number of answers per step, if the budget buys enough steps.
        processes: Number of training processes.
        updates: Number of optimiser steps per batch.
    """

    Config: ClassVar[type[TrainingConfig]] = TrainingConfig
    config: TrainingConfig
    # Holds the published rate for a billion parameters, and the best ones of models a thousand times smaller.
    space: ClassVar[Space] = {"lr": Dimension(3e-7, 3e-4)}
    # With a rate that suits a small model, so that the result depends on what was trained.
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ({"lora": {"rank": 2}, "lr": 1e-3},)
    libraries: tuple[str, ...] = ("trl", "datasets")
    install: ClassVar[str] = "pip install -c requirements/cpu.txt '.[train]'"
    trains: ClassVar[bool] = True
    batch: ClassVar[int]
    processes: int = 1
    updates: int = 1

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        if config.lora is not None:
            self.libraries = (*self.libraries, "peft")

    def spread(self, processes: int) -> None:
        """Set the number of training processes. Each gets an equal part of every batch."""
        self.processes = processes

    def refused_engine(self, engine: str) -> str | None:
        """Return None: the trainable copy trains, and whatever engine the run has samples its rollouts."""
        return None

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the method samples answers, or rewards them, in a way that the run does not allow."""
        if not self._samples:
            return None
        if task.refused_rollouts:
            return f"it samples answers, and {task.refused_rollouts}; leave out the option"
        if isinstance(self.config, RolloutConfig) and self.config.truncated == "punish" and task.refused_rewards:
            return f"truncated=punish sets rewards to 0, and {task.refused_rewards}; take --set truncated=train"
        return None

    @property
    def _samples(self) -> bool:
        """Whether the method samples answers from the model in training."""
        return isinstance(self.config, RolloutConfig)

    @property
    @abstractmethod
    def cost(self) -> float:
        """Estimated cost of one answer of a step with all its passes, in evaluations. Used for the plan only."""

    @property
    def multiple(self) -> int:
        """Number that must divide the batch."""
        return 1

    @abstractmethod
    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the modules to train with their learning rates."""

    @abstractmethod
    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's trainer until the loop ends it.

        Args:
            loop: Training loop with the modules to train.
            folder: Temporary folder for the trainer's files.
        """

    def curriculum(self, context: Context, training: Training) -> Curriculum | None:
        """Return the curriculum that chooses the prompts. Default: None, all prompts in a new random order each epoch.

        Args:
            context: Access to the run.
            training: The trainable copy.
        """
        return None

    @property
    @abstractmethod
    def what(self) -> str:
        """Content of a step in a few words, a noun. The plan adds the updates: `about 30 steps of 64 {what}`."""

    def schedule(self, evaluations: int, task: TaskTraits) -> TrainingSchedule:
        """Return the schedule for a budget."""
        multiple = math.lcm(self.multiple, self.processes)
        return make_schedule(evaluations, self.config, batch=self.batch, multiple=multiple, cost=self.cost)

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the training steps that this budget buys."""
        schedule = self.schedule(evaluations, task)
        updates = f", in {self.updates} updates" if self.updates > 1 else ""
        return describe(schedule, evaluations, f"{schedule.batch} {self.what}{updates}", self._reach(schedule))

    def _reach(self, schedule: TrainingSchedule) -> float | None:
        # A step of AdamW moves a weight by about the learning rate; adapters are multiplied before they move one.
        return schedule.steps * self.updates * self.config.lr if self.config.lora is None else None

    def adapt(self, context: Context) -> Artifact:
        """Train within the budget and return the trained model."""
        schedule = self.schedule(round(context.budget / context.evaluation_flops), context.task)
        context.report["schedule"] = asdict(schedule)
        return SingleModel(self.fit(context, context.remaining, schedule, self.train))

    def fit(
        self,
        context: Context,
        allowance: int,
        schedule: TrainingSchedule,
        train: Callable[[Loop, str], None],
        start: Checkpoint | None = None,
    ) -> Checkpoint:
        """Train until the allowance is spent, and return the checkpoint. The report gets the record of the training.

        Args:
            context: Access to the run.
            allowance: FLOPs that training may spend.
            schedule: Planned schedule.
            train: Function that runs TRL's trainer, see `train`.
            start: Weights to begin from. Default: the base.
        """
        training = context.train(allowance, self.config.lora, start)
        if training.finished is None:
            self._train(context, training, schedule, train)
            return training.finish(context.report["training"])
        checkpoint, context.report["training"] = training.finished
        return checkpoint

    def _train(
        self, context: Context, training: Training, schedule: TrainingSchedule, train: Callable[[Loop, str], None]
    ) -> None:
        from methods.training.loop import Loop  # imports PyTorch, which plans do not need

        learners, curriculum = self.learners(training), self.curriculum(context, training)
        loop = Loop(context, training, self.config, schedule, learners, curriculum)
        with context.stage("training", schedule.steps) as stage, tempfile.TemporaryDirectory() as folder:
            try:
                loop.run(stage, lambda: train(loop, folder))
            except Diverged as error:
                training.abandon(str(error), loop.report())
                raise
            finally:
                context.report["training"] = loop.report()
