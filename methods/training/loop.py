"""What stands around a TRL trainer: it stops at the last step that fits, saves, resumes, and notices divergence.

Both trainers are driven alike: `before` each step, which decides whether there is one and gives it random streams of
its own, and `after` it, from the trainer's log. Every step is a function of the run's seed, its number and what the
steps before it made of the weights; so a saved state is weights, optimiser and rows, and holds no generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from accelerate.utils import patch_environment
from torch import nn
from transformers import PrinterCallback, TrainerCallback, set_seed

from bench.errors import BenchError
from bench.seeds import derive
from methods.interface import Context, Diverged, Stage, Training
from methods.training.config import TrainingConfig, TrainingSchedule
from methods.training.curriculum import Curriculum, mean_rewards
from methods.training.progress import Row, curve, divergence, next_cost
from tasks.interface import Score


class Finished(Exception):
    """No further step fits the budget; ends the trainer's loop."""


class Loop:
    """One training run.

    Args:
        context: The run.
        training: Its trainable copy.
        config: Settings.
        schedule: The plan.
        groups: What is trained, with learning rates.
        curriculum: Chooses each step's prompts; None for every prompt in random order.

    Attributes:
        modules: What is trained.
        rows: One a step.
        judged: The scores last given.
    """

    def __init__(
        self,
        context: Context,
        training: Training,
        config: TrainingConfig,
        schedule: TrainingSchedule,
        groups: Sequence[tuple[nn.Module, float]],
        curriculum: Curriculum | None = None,
    ) -> None:
        self.training, self.config, self.schedule = training, config, schedule
        self._curriculum = curriculum
        self._chosen: list[int] = []
        self._seed = context.seed
        self.modules = [module for module, _ in groups]
        parameters = [[p for p in module.parameters() if p.requires_grad] for module in self.modules]
        rates = [lr for _, lr in groups]
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "lr": lr} for part, lr in zip(parameters, rates, strict=True)], weight_decay=0.0
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)
        self.rows: list[Row] = []
        self.judged: list[Score] = []
        self._costs: list[int] = []
        self._spent = training.spent
        self._answers: list[tuple[Score, int]] = []
        self._stage: Stage | None = None
        if training.state is not None:
            self._restore(training.state)

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.rows)

    def run(self, stage: Stage, train: Callable[[], object]) -> None:
        """Let a trainer train, step by step, until no further one fits.

        Raises:
            Diverged: If training came to nothing.
        """
        self._stage = stage
        for _ in self.rows:
            stage.advance()
        # What precision a step is computed in is the trainer's arguments' to say and not the environment's.
        with self.training.metered(), suppress(Finished), patch_environment(accelerate_mixed_precision="no"):
            train()

    def order(self, each: int) -> Iterator[int]:
        """Yield indices of prompts from the next step on: every prompt once, in random order, and again.

        Args:
            each: Prompts a step.
        """
        count, start = len(self.training.prompts), self.step * each
        for epoch in range(start // count, 1 << 62):
            order = np.random.default_rng(derive(self._seed, "training order", epoch)).permutation(count)
            yield from order[max(0, start - epoch * count) :].tolist()

    def chosen(self, count: int) -> list[int] | None:
        """Return the places of this step's prompts as the curriculum wants them; None where there is none.

        Raises:
            BenchError: If it chose another number, or what is no prompt, or otherwise than that of another process.
        """
        if self._curriculum is None:
            return None
        self._chosen = [int(place) for place in self._curriculum.choose(self.step, count)]
        # Each process trains on its part of what it chose itself; parts of different choices are no batch of either.
        if any(theirs != self._chosen for theirs in self.training.ranks.gather(self._chosen)):
            raise BenchError(f"at step {self.step} the curricula of several processes chose different prompts")
        if len(self._chosen) != count or not all(0 <= i < len(self.training.prompts) for i in self._chosen):
            raise BenchError(
                f"the curriculum chose {self._chosen} at step {self.step}; {count} places below "
                f"{len(self.training.prompts)} were asked for"
            )
        return self._chosen

    def before(self) -> None:
        """Begin a step.

        Raises:
            Finished: If the budget does not cover it.
        """
        ranks, ahead = self.training.ranks, max(next_cost(self._costs), self.training.bound(self.schedule.step))
        if any(ranks.gather(self.training.remaining <= ahead)):
            raise Finished
        set_seed((derive(self._seed, "training step", self.step) + ranks.rank) % 2**32)

    def judge(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Judge answers for the trainer, and keep what the row on this step needs."""
        scores = self.training.judge(examples, answers)
        self._answers += zip(scores, map(len, answers), strict=True)
        self.judged = scores
        return scores

    def after(self, row: Row) -> None:
        """End a step: its row, its cost, and a save where one is due.

        Raises:
            Diverged: If training came to nothing.
        """
        finite = all(bool(torch.isfinite(p).all()) for group in self.optimizer.param_groups for p in group["params"])
        self.training.settle()
        everybody = self.training.ranks.gather((row | ({} if finite else {"weights": float("nan")}), self._answers))
        row, answers = everybody[0][0], [answer for _, part in everybody for answer in part]
        self._answers = []
        if self._curriculum is not None:
            rewards = [None if score.status == "infrastructure" else score.reward for score, _ in answers]
            self._curriculum.learn(self._chosen, mean_rewards(rewards, len(self._chosen)))
        if answers:
            judged = [score for score, _ in answers if score.status != "infrastructure"] or [Score(0.0, False)]
            answered: Row = {
                "reward": sum(score.reward for score in judged) / len(judged),
                "correct": sum(score.correct for score in judged) / len(judged),
                "length": sum(length for _, length in answers) / len(answers),
            }
            row = answered | row
        self._costs.append(self.training.spent - self._spent)
        self._spent = self.training.spent
        self.rows.append(row)
        if reason := divergence(self.rows, self.schedule.batch):
            raise Diverged(f"training diverged: {reason}")
        if self._stage is not None:
            self._stage.advance(row.get("reward"))
        if self.step % self.schedule.save_every == 0:
            self._save()

    def report(self) -> dict[str, Any]:
        """Return what goes on record."""
        return {
            "steps": self.step,
            "cut": self.training.cut,
            "flops": self.training.spent,
            "phases": self.training.phases,
            "curve": curve(self.rows),
            **({} if self._curriculum is None else {"curriculum": self._curriculum.report()}),
        }

    # State

    def _trained(self) -> dict[str, nn.Parameter]:
        return {
            f"{number}.{name}": parameter
            for number, module in enumerate(self.modules)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def _save(self) -> None:
        weights = {name: parameter.detach() for name, parameter in self._trained().items()}
        state = {"weights": weights, "optimizer": self.optimizer.state_dict(), "rows": self.rows, "costs": self._costs}
        if self._curriculum is not None:
            state["curriculum"] = self._curriculum.state()
        self.training.save(state)

    def _restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows, self._costs = list(state["rows"]), list(state["costs"])
        if self._curriculum is not None:
            self._curriculum.restore(state["curriculum"])


class Steps(TrainerCallback):
    """Tells a loop of a trainer's steps.

    Args:
        loop: The loop.
        columns: Of the trainer's log, and the names that they have in a row.
    """

    def __init__(self, loop: Loop, columns: dict[str, str]) -> None:
        self._loop, self._columns = loop, columns

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Begin a step, in trainers that say so."""
        self._loop.before()

    def on_log(self, *_: Any, logs: dict[str, float | None], **__: Any) -> None:
        """End a step; trainers log each one, after their optimiser has stepped."""
        if all(column in logs for column in self._columns):
            # A trainer logs None where all it would average is not a number.
            values = {name: logs[column] for column, name in self._columns.items()}
            self._loop.after({name: float("nan" if value is None else value) for name, value in values.items()})


def quiet(trainer: Any) -> None:
    """Keep a trainer from writing on standard output, which belongs to the command line."""
    trainer.remove_callback(PrinterCallback)
    trainer.accelerator.print = lambda *_, **__: None
