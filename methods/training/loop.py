"""Training loop around a TRL trainer: stops at the last step that fits the budget, saves, resumes, detects divergence.

Both trainers are driven alike. `begin_step` decides whether there is a next step and seeds its random streams.
`end_step` receives the trainer's log. A step depends only on the run's seed, its index and the weights so far. So a
saved state consists of weights, optimiser state and rows, without any generator state.
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
from methods.training.divergence import Row, curve, divergence, next_cost
from tasks.interface import Score


class Finished(Exception):
    """No further step fits the budget. Raised to leave the trainer's loop."""


class Loop:
    """One training run.

    Args:
        context: Access to the run.
        training: The trainable copy.
        config: Settings.
        schedule: Planned schedule.
        groups: Modules to train, with their learning rates.
        curriculum: Chooses the prompts of each step. Default: all prompts in a new random order each epoch.

    Attributes:
        modules: Modules to train.
        rows: Rows of the training curve, one per step.
        scores: Scores of the answers last generated.
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
        self.scores: list[Score] = []
        self._costs: list[int] = []
        self._spent = training.spent
        self._answers: list[tuple[Score, int]] = []
        self._stage: Stage | None = None
        if training.state is not None:
            self._restore(training.state)

    @property
    def step(self) -> int:
        """Number of steps done."""
        return len(self.rows)

    def run(self, stage: Stage, train: Callable[[], object]) -> None:
        """Run a trainer until no further step fits the budget.

        Args:
            stage: Phase on the progress display.
            train: Function that runs the trainer.

        Raises:
            Diverged: If training diverged.
        """
        self._stage = stage
        for _ in self.rows:
            stage.advance()
        # The trainer's arguments set the precision. The environment must not override it.
        with self.training.metered(), suppress(Finished), patch_environment(accelerate_mixed_precision="no"):
            train()

    def order(self, each: int) -> Iterator[int]:
        """Yield indices of prompts from the next step on: all prompts in a new random order each epoch.

        Args:
            each: Number of prompts per step.
        """
        count, start = len(self.training.prompts), self.step * each
        for epoch in range(start // count, 1 << 62):
            order = np.random.default_rng(derive(self._seed, "training order", epoch)).permutation(count)
            yield from order[max(0, start - epoch * count) :].tolist()

    def choose(self, count: int) -> list[int] | None:
        """Return the indices of the prompts that the curriculum chose for this step; None without a curriculum.

        Args:
            count: Number of prompts per step.

        Raises:
            BenchError: If the number of indices is wrong, an index is out of range, or two processes chose differently.
        """
        if self._curriculum is None:
            return None
        self._chosen = [int(place) for place in self._curriculum.choose(self.step, count)]
        # Each process trains on its part of its own choice, so different choices would not form one batch.
        if any(other != self._chosen for other in self.training.ranks.gather(self._chosen)):
            raise BenchError(f"at step {self.step} the curricula of several processes chose different prompts")
        if len(self._chosen) != count or not all(0 <= i < len(self.training.prompts) for i in self._chosen):
            raise BenchError(
                f"the curriculum chose {self._chosen} at step {self.step}; expected {count} indices "
                f"below {len(self.training.prompts)}"
            )
        return self._chosen

    def begin_step(self) -> None:
        """Start a step and seed its random streams.

        Raises:
            Finished: If the budget does not cover the step.
        """
        ranks, needed = self.training.ranks, max(next_cost(self._costs), self.training.bound(self.schedule.step))
        if any(ranks.gather(self.training.remaining <= needed)):
            raise Finished
        set_seed((derive(self._seed, "training step", self.step) + ranks.rank) % 2**32)

    def score(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Return the scores of answers, and keep them for the row of this step.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
        """
        scores = self.training.judge(examples, answers)
        self._answers += zip(scores, map(len, answers), strict=True)
        self.scores = scores
        return scores

    def end_step(self, row: Row) -> None:
        """Finish a step: add its row and its cost, and save the state if a save is due.

        Args:
            row: Values from the trainer's log.

        Raises:
            Diverged: If training diverged.
        """
        finite = all(bool(torch.isfinite(p).all()) for group in self.optimizer.param_groups for p in group["params"])
        self.training.settle()
        gathered = self.training.ranks.gather((row | ({} if finite else {"weights": float("nan")}), self._answers))
        row, answers = gathered[0][0], [answer for _, part in gathered for answer in part]
        self._answers = []
        if self._curriculum is not None:
            rewards = [None if score.status == "infrastructure" else score.reward for score, _ in answers]
            self._curriculum.learn(self._chosen, mean_rewards(rewards, len(self._chosen)))
        if answers:
            scored = [score for score, _ in answers if score.status != "infrastructure"] or [Score(0.0, False)]
            means: Row = {
                "reward": sum(score.reward for score in scored) / len(scored),
                "correct": sum(score.correct for score in scored) / len(scored),
                "length": sum(length for _, length in answers) / len(answers),
            }
            row = means | row
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
        """Return the record of the training."""
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


class StepCallback(TrainerCallback):
    """Calls a loop at the start and end of each step of a trainer.

    Args:
        loop: The loop.
        columns: Columns of the trainer's log, with their names in a row.
    """

    def __init__(self, loop: Loop, columns: dict[str, str]) -> None:
        self._loop, self._columns = loop, columns

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start a step. PPOTrainer does not call this; `Batches` starts its steps."""
        self._loop.begin_step()

    def on_log(self, *_: Any, logs: dict[str, float | None], **__: Any) -> None:
        """Finish a step. Trainers log each one after the optimiser's update."""
        if all(column in logs for column in self._columns):
            # A trainer logs None for a mean over values that are all NaN.
            values = {name: logs[column] for column, name in self._columns.items()}
            self._loop.end_step({name: float("nan" if value is None else value) for name, value in values.items()})


def silence(trainer: Any) -> None:
    """Stop a trainer from printing to standard output, which is reserved for the command line's results."""
    trainer.remove_callback(PrinterCallback)
    trainer.accelerator.print = lambda *_, **__: None
