"""Training loop around a TRL trainer: stops at the last step that fits the budget, saves, resumes, detects divergence.

Both trainers are driven alike. `begin_step` decides whether there is a next step and seeds its random streams.
`end_step` receives the trainer's log. A step depends only on the run's seed, its index and the weights so far. So a
saved state consists of weights, optimiser state and rows, without any generator state.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PrinterCallback, TrainerCallback, set_seed

from bench.distributed import local
from bench.errors import BenchError
from bench.seeds import derive
from methods.interface import Context, Diverged, Rollout, Stage, Training
from methods.training.config import RolloutConfig, TrainingConfig, TrainingSchedule
from methods.training.curriculum import Curriculum, endless_order, mean_rewards
from methods.training.curve import Row, curve
from methods.training.divergence import collapse, divergence, next_cost
from methods.training.ratio import Ratio, RatioCheck
from tasks.interface import Score

LAUNCHER_VARIABLES = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")
"""Prefixes of the environment variables with which accelerate overrides a trainer's arguments: its precision, number of
accumulated passes, compiler and sharding. A launched worker has joined its group before they are removed."""
GROUP_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_", "PMI_", "OMPI_", "MV2_")
"""Prefixes of the variables by which torchrun and MPI, under Slurm too, place a process in a group. A run that trains
in its own process would wait for the others."""


class Finished(Exception):
    """No further step fits the budget. Raised to leave the trainer's loop."""


class Answer(NamedTuple):
    """A sampled answer, as far as a row of the curve needs it.

    Attributes:
        score: Its score.
        reward: Reward to train on; None if it could not be judged.
        tokens: Number of its tokens, its end included.
        entropy: Sum of the entropies of their distributions; None if the engine that sampled them returned none.
        truncated: Whether it was cut off at the limit.
        whole: Whether all of its tokens were sampled. The curve leaves out answers that began with given tokens.
    """

    score: Score
    reward: float | None
    tokens: int
    entropy: float | None
    truncated: bool
    whole: bool = True


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
        seed: The run's seed, from which all random streams are derived.
        rows: Rows of the training curve, one per step.
        scores: Scores of the answers last generated.
        advantages: Mean size of the advantages of each prompt's answers in this step, as the curriculum learns them.
        values: Further values of this step's row, by column, which the method sets.
        memory: What the method keeps from step to step, saved with the state: tensors and plain values, in dictionaries
            and lists.
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
        self.seed = context.seed
        self.modules = [module for module, _ in groups]
        parameters = [[p for p in module.parameters() if p.requires_grad] for module in self.modules]
        rates = [lr for _, lr in groups]
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "lr": lr} for part, lr in zip(parameters, rates, strict=True)], weight_decay=0.0
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)
        self.rows: list[Row] = []
        self.scores: list[Score] = []
        self.advantages: list[float] = []
        self.values: Row = {}
        self.memory: dict[str, Any] = {}
        self._costs: list[int] = []
        self._spent = training.spent
        self._answers: list[Answer] = []
        self._rollouts: Sequence[Rollout] = ()
        self._ratio = Ratio()
        self._check: RatioCheck | None = None
        self._stage: Stage | None = None
        if training.state is not None:
            self._restore(training.state)

    @property
    def step(self) -> int:
        """Number of steps done."""
        return len(self.rows)

    @property
    def rollouts(self) -> Sequence[Rollout]:
        """Answers of this step, in the order of the batch. Default: those that the model sampled last."""
        return self._rollouts or self.training.rollouts

    @rollouts.setter
    def rollouts(self, rollouts: Sequence[Rollout]) -> None:
        self._rollouts = rollouts

    def check_ratio(self) -> None:
        """Check the probability ratio before the first update of a trainer that updates on the answers sampled last.

        If an engine samples, every step is checked, before its first update. If sampling and training compute in
        float32, an engine that still has old weights fails once training has moved the ratio by more than the tolerance
        of 1e-4. In half precision the tolerance is wider, so the check does not show that the weights arrived.
        """
        assert isinstance(self.config, RolloutConfig)
        if self.training.rollout_dtype is not None or not self._ratio.tokens:  # else an earlier attempt has checked it
            self._check = RatioCheck(self.training, self.optimizer, self.config.temperature)

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
        alone = self.training.ranks.world_size == 1
        removed = LAUNCHER_VARIABLES + (GROUP_VARIABLES if alone else ())
        with self.training.metered(), suppress(Finished), without_variables(*removed), without_renames():
            train()

    def order(self, each: int) -> Iterator[int]:
        """Return indices of prompts from the next step on: all prompts in a new random order each epoch.

        Args:
            each: Number of prompts per step.
        """
        return endless_order(self.seed, len(self.training.prompts), self.step * each)

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
        set_seed((derive(self.seed, "training step", self.step) + ranks.rank) % 2**32)

    def score(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Return the scores of answers, and keep them for the row of this step.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
        """
        scores = self.training.judge(examples, answers)
        for score, answer, rollout, punished in zip(scores, answers, self.rollouts, self._punished(), strict=True):
            reward = None if score.status == "infrastructure" else 0.0 if punished else score.reward
            entropy = None if rollout.entropies is None else float(rollout.entropies.sum())
            self._answers.append(Answer(score, reward, len(answer), entropy, rollout.truncated, not rollout.prefix))
        self.scores = scores
        return scores

    def rewards(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[float | None]:
        """Return the rewards to train on; None for an answer that could not be judged.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
        """
        before = len(self._answers)
        self.score(examples, answers)
        return [answer.reward for answer in self._answers[before:]]

    def parts(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[dict[str, float] | None]:
        """Return the parts of the rewards that `rewards` returned last; None for an answer that could not be judged.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
        """
        found = self.training.parts(examples, answers, self.scores)
        parts: list[dict[str, float] | None] = []
        for each, score, punished in zip(found, self.scores, self._punished(), strict=True):
            known = each is not None and score.status != "infrastructure"
            parts.append((dict.fromkeys(each or {}, 0.0) if punished else each) if known else None)
        return parts

    def _punished(self) -> list[bool]:
        """Return whether each of the answers last generated has reward 0 because it was cut off."""
        assert isinstance(self.config, RolloutConfig)
        return [rollout.truncated and self.config.truncated == "punish" for rollout in self.rollouts]

    def end_step(self, row: Row) -> None:
        """Finish a step: add its row and its cost, and save the state if a save is due.

        Args:
            row: Values from the trainer's log.

        Raises:
            Diverged: If training diverged.
        """
        parameters = [local(p) for group in self.optimizer.param_groups for p in group["params"]]
        finite = all(bool(torch.isfinite(p).all()) for p in parameters)
        self.training.settle()
        parts = self.training.ranks.gather((row, self.values, self._answers, finite))
        answers = [answer for *_, part, _ in parts for answer in part]
        # Each process checks its part of the weights. A diverged step has none of the method's values.
        row = parts[0][0] | (parts[0][1] if all(finite for *_, finite in parts) else {"weights": float("nan")})
        self.values, self._answers = {}, []
        if self._check is not None:
            row |= self._checked(self._check)
        if self._curriculum is not None:
            rewards = [answer.reward for answer in answers]
            advantages = self.advantages or [float("nan")] * len(self._chosen)
            self._curriculum.learn(self._chosen, mean_rewards(rewards, len(self._chosen)), advantages)
        if answers:
            row = _means(answers) | row
            if row["reward"] is None and "flat" in row:
                row["flat"] = None  # the trainer compares rewards that do not exist
        self._costs.append(self.training.spent - self._spent)
        self._spent = self.training.spent
        self.rows.append(row)
        if reason := divergence(self.rows, self.schedule.batch):
            raise Diverged(f"training diverged: {reason}")
        if self._stage is not None:
            self._stage.advance(row.get("reward"), values={"step": float(self.step), **row})
        if self.step % self.schedule.save_every == 0:
            self._save()

    def _checked(self, check: RatioCheck) -> Row:
        """Check the ratio of this step. Return its distance from 1 for the row if an engine samples."""
        dtype, found = self.training.rollout_dtype, Ratio()
        for ratio in self.training.ranks.gather(check.ratio):
            found = found.plus(ratio)
        found.check(mixed=self.training.mixed, rollout_dtype=dtype)
        self._ratio = self._ratio.plus(found)
        if dtype is not None:
            check.restart()
            return {"mismatch": found.distance / found.tokens if found.tokens else None}
        if self._ratio.tokens:  # a step may have no answer with a loss, as one of dpo without a pair
            self._check = None
        return {}

    def report(self) -> dict[str, Any]:
        """Return the record of the training."""
        return {
            "steps": self.step,
            "cut": self.training.cut,
            "seed": self.seed,
            "ratio": self._ratio.report(),
            "collapse": collapse(self.rows),
            "flops": self.training.spent,
            "phases": self.training.phases,
            "curve": curve(self.rows),
            **({"teachers": self.training.teachers} if self.training.teachers else {}),
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
        state = {"rows": self.rows, "costs": self._costs, "ratio": tuple(self._ratio), "memory": self.memory}
        if self._curriculum is not None:
            state["curriculum"] = self._curriculum.state()
        if self.training.ranks.sharded:
            self.training.save(state, self.optimizer)
            return
        weights = {name: parameter.detach() for name, parameter in self._trained().items()}
        self.training.save(state | {"weights": weights, "optimizer": self.optimizer.state_dict()})

    def _restore(self, state: dict[str, Any]) -> None:
        if self.training.ranks.sharded:
            self.training.restore(self.optimizer)
        else:
            with torch.no_grad():
                for name, parameter in self._trained().items():
                    parameter.copy_(state["weights"][name])
            self.optimizer.load_state_dict(state["optimizer"])
        self.rows, self._costs, self._ratio = list(state["rows"]), list(state["costs"]), Ratio(*state["ratio"])
        self.memory = state.get("memory", {})  # states of earlier versions have none
        if self._curriculum is not None:
            self._curriculum.restore(state["curriculum"])


def _means(answers: Sequence[Answer]) -> Row:
    """Return the values of a row that follow from the answers. An answer that could not be judged has no reward.

    Answers that began with given tokens do not count, because they do not show what the model does by itself.
    """
    answers = [answer for answer in answers if answer.whole] or answers
    scored = [answer.score for answer in answers if answer.score.status != "infrastructure"]
    tokens = sum(answer.tokens for answer in answers)
    entropies = [answer.entropy for answer in answers if answer.entropy is not None]
    return {
        "reward": sum(score.reward for score in scored) / len(scored) if scored else None,
        "correct": sum(score.correct for score in scored) / len(scored) if scored else None,
        "length": tokens / len(answers),
        "truncated": sum(answer.truncated for answer in answers) / len(answers),
        "entropy": sum(entropies) / tokens if len(entropies) == len(answers) else None,
    }


@contextmanager
def without_variables(*prefixes: str) -> Iterator[None]:
    """Remove the environment variables whose names begin with one of the prefixes, and restore them afterwards."""
    removed = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(prefixes)}
    try:
        yield
    finally:
        os.environ.update(removed)


@contextmanager
def without_renames() -> Iterator[None]:
    """Suppress the two warnings of transformers that name its new words for gradient checkpointing.

    TRL still takes and reads the old words, and versions of transformers that are supported here do not know the new
    ones.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
        yield


class LogCallback(TrainerCallback):
    """Calls a loop at the end of each step of a trainer that begins its steps itself.

    Args:
        loop: The loop.
        columns: Columns of the trainer's log, with their names in a row.
        updates: Number of the trainer's logs per step of the loop. The row has the mean of each column.
    """

    def __init__(self, loop: Loop, columns: Mapping[str, str], updates: int = 1) -> None:
        self._loop, self._columns, self._updates = loop, columns, updates
        self._logs: list[dict[str, float]] = []

    def on_log(self, *_: Any, logs: dict[str, float | None], **__: Any) -> None:
        """Finish a step after its last update. Trainers log each update; only the first log is about the answers."""
        found = {name: logs[column] for column, name in self._columns.items() if column in logs}
        if not found:
            return
        # A trainer logs None for a mean over values that are all NaN.
        self._logs.append({name: float("nan" if value is None else value) for name, value in found.items()})
        if len(self._logs) == self._updates:
            values = {name: [log[name] for log in self._logs if name in log] for name in self._logs[0]}
            self._logs.clear()
            self._loop.end_step({name: sum(each) / len(each) for name, each in values.items()})


class StepCallback(LogCallback):
    """Calls a loop at the start and end of each step, which may take several optimiser steps of a trainer."""

    def on_step_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Start a step."""
        if state.global_step % self._updates == 0:
            self._loop.begin_step()


def silence(trainer: Any) -> None:
    """Stop a trainer from printing to standard output, which is reserved for the command line's results."""
    trainer.remove_callback(PrinterCallback)
    trainer.accelerator.print = lambda *_, **__: None
