"""Expert iteration: fine-tune the model on its own right answers, and again from the result.

The plain form of RAFT (arXiv 2304.06767) and STaR (arXiv 2203.14465). A round has two halves. In the first, the present
model samples `samples` answers to each of a number of prompts, and the right ones are kept, equal ones of a prompt
once:

    D_r = { (x, y) : y ~ p_r(. | x), y is right }
    p_(r+1) = p_r fine-tuned on D_r with the loss of `sft`: - mean over the tokens of log p(token)

In the second, the model is fine-tuned on D_r, on the tokens as they were sampled, in a new random order each epoch.
Both halves cost the same: a step samples three answers in the place of each one that it would train on. While nothing
is kept, the second half goes on sampling, and the weights stay as they are. After the last round, fine-tuning goes on
until the budget is spent.

With one round this is supervised fine-tuning on the base's own right answers, step for step.

Differences from the papers: RAFT keeps the answer of highest reward of each prompt, and here all right answers are kept
and no others, so a prompt without one is left out. STaR begins each round's fine-tuning from the base, and asks again
with the gold answer as a hint where the model was wrong; here a round continues from the last one, as in RAFT, and
nothing sees the gold answers but the scorer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import PositiveInt

from bench.errors import Refused
from bench.settings import setting
from methods.interface import Plan, PlanLine, Training
from methods.training.config import RolloutConfig, SftConfig, TrainingConfig, TrainingSchedule
from methods.training.curriculum import endless_order
from methods.training.gradient import GradientMethod
from methods.training.group import ROLLOUT, UPDATE
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop
    from methods.training.tuner import Example

PER_TRAINED = UPDATE // ROLLOUT
"""Number of answers that a step samples in the place of one that it would train on, at the same cost."""


class ExpertIterationConfig(SftConfig, RolloutConfig):
    """Settings of expert iteration, in addition to those of fine-tuning and of every method that samples answers.

    An answer that was cut off at the limit on its length is kept only with `truncated = train`.
    """

    samples: PositiveInt = setting(4, "Number of answers sampled per prompt.", unit="answers", source="our choice")
    rounds: PositiveInt = setting(
        4, "Number of rounds of sampling and fine-tuning, which share the budget equally.", source="our choice"
    )


class ExpertIteration(GradientMethod):
    """Supervised fine-tuning on the model's own right answers, in rounds."""

    name = "expert-iteration"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = ExpertIterationConfig
    config: ExpertIterationConfig
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (*GradientMethod.variants, {"rounds": 1, "lr": 1e-3})
    batch = 64
    cost = UPDATE
    what = "kept answers"

    @property
    def multiple(self) -> int:
        """Number of answers per prompt, because a step samples all answers to a prompt."""
        return self.config.samples

    def schedule(self, evaluations: int, task: TaskTraits) -> TrainingSchedule:
        """Return the schedule for a budget, which must buy two steps a round."""
        schedule = super().schedule(evaluations, task)
        if schedule.steps < 2 * self.config.rounds:
            raise Refused(
                f"a budget of {evaluations} evaluations buys {schedule.steps} steps of {schedule.batch} answers, and "
                f"rounds={self.config.rounds} needs {2 * self.config.rounds}: each round samples and then trains; take "
                "fewer rounds, a smaller batch, or a larger budget"
            )
        return schedule

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the rounds that this budget buys."""
        plan, schedule = super().plan(evaluations, task), self.schedule(evaluations, task)
        places = [place(step, schedule.steps, self.config.rounds) for step in range(schedule.steps)]
        sampling = sum(each.samples for each in places)
        answers = sampling * PER_TRAINED * schedule.batch
        prompts = answers / self.config.samples / self.config.rounds
        lines = (
            PlanLine("train", f"{answers} answers in {self.config.rounds} rounds", answers * ROLLOUT),
            PlanLine(
                "train",
                f"about {schedule.steps - sampling} steps of {schedule.batch} {self.what}",
                evaluations - answers * ROLLOUT,
            ),
        )
        note = f"a round asks about {prompts:.0f} prompts, {self.config.samples} times each, and the support split has"
        return replace(plan, lines=lines, notes=(*plan.notes, f"{note} {task.sizes['support']}"))

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the model."""
        return [(training.model, self.config.lr)]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's SFTTrainer on the answers that each round keeps."""
        from methods.training.tuner import Tuner

        Tuner(self.config, loop, folder, examples=Rounds(self.config, loop).examples).train()


class Place(NamedTuple):
    """Place of a step: the number of its round, from 0, and whether it is in the round's first half, which samples."""

    round: int
    samples: bool


def place(step: int, steps: int, rounds: int) -> Place:
    """Return the place of a step.

    Example: of 10 steps in 2 rounds, steps 0 and 1 sample and 2 to 4 train, 5 and 6 sample, and the others train.

    Args:
        step: Number of steps before it.
        steps: Planned number of steps, at least two a round.
        rounds: Number of rounds. The last one has no end, because training may take more steps than planned.
    """
    starts = [number * steps // rounds for number in range(rounds + 1)]
    number = min(bisect_right(starts, step), rounds) - 1
    return Place(number, step - starts[number] < (starts[number + 1] - starts[number]) // 2)


class Rounds:
    """Source of examples that samples and keeps the right answers of each round.

    All that it knows is in the loop's memory, so a resumed run continues in the middle of a round: the round, the kept
    answers as pairs of the prompt's index and token ids, and how many steps have sampled and trained.

    Args:
        config: Settings.
        loop: Training loop.
    """

    def __init__(self, config: ExpertIterationConfig, loop: Loop) -> None:
        self._config, self._loop = config, loop
        loop.memory = {"round": 0, "kept": [], "sampled": 0, "trained": 0, **loop.memory}

    def examples(self) -> list[Example]:
        """Return the kept answers to train on in this step; none if it samples."""
        from methods.training.tuner import example

        loop, memory = self._loop, self._loop.memory
        number, samples = place(loop.step, loop.schedule.steps, self._config.rounds)
        if number > memory["round"]:
            memory |= {"round": number, "kept": []}
        if samples or not memory["kept"]:
            self._sample()
            return []
        kept, batch = memory["kept"], loop.schedule.batch
        order = endless_order(loop.seed, len(kept), memory["trained"] * batch)
        memory["trained"] += 1
        rows = [kept[index] for index in islice(order, batch)]
        return [example(loop.training.prompts[index].token_ids, tokens) for index, tokens in rows]

    def _sample(self) -> None:
        from methods.training.sampling import sample

        loop, memory, samples = self._loop, self._loop.memory, self._config.samples
        count = PER_TRAINED * loop.schedule.batch // samples
        order = endless_order(loop.seed, len(loop.training.prompts), memory["sampled"] * count)
        memory["sampled"] += 1
        prompts = [index for index in islice(order, count) for _ in range(samples)]
        known = {(index, *tokens) for index, tokens in memory["kept"]}
        for each in sample(loop, prompts, self._config.temperature):
            wanted = each.correct and (self._config.truncated == "train" or not each.truncated)
            if wanted and (each.prompt, *each.tokens) not in known:
                known.add((each.prompt, *each.tokens))
                memory["kept"].append([each.prompt, list(each.tokens)])
        loop.values = {"kept": float(len(known))}
