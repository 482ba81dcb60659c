"""Direct preference optimisation (DPO, arXiv 2305.18290) on right and wrong answers of the model itself, by TRL.

Each step samples groups of answers as `grpo` does, and pairs right with wrong answers to one prompt. The loss of a pair
is -log sigmoid(beta (r(right) - r(wrong))), where r(y) = log policy(y) - log reference(y) and the reference is the base
(equation 7). A step takes the mean over all its pairs. TRL's DPOTrainer computes it.

In a group, the first right answer is paired with the first wrong one, the second with the second, and so on, so that no
answer is in two pairs. A group whose answers are all right or all wrong has no pair. A step without any pair does not
change the weights, and what it sampled is billed all the same.

Differences from the paper: it trains on a fixed set of pairs that people ranked. Here the task's scorer ranks, and the
pairs are new in each step, so they come from the model in training and not from the reference. The rule is then that of
online DPO (arXiv 2402.04792), with the scorer as annotator.

In the first step the policy is the reference. Each pair then has the loss log 2, and the gradient is beta / 2 times
that of log policy(wrong) - log policy(right): a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from bench.errors import Refused
from bench.settings import setting
from methods.interface import Dimension
from methods.space import Space
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.group import ROLLOUT, UPDATE, GroupMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop

REFERENCE = 1
"""Cost of one answer's pass through the reference, in evaluations."""


class DpoConfig(GroupConfig):
    """Settings of DPO, in addition to those of every method that samples answers in groups."""

    group: Annotated[int, Field(ge=2)] = setting(
        8,
        "Number of answers per prompt, among which right ones are paired with wrong ones.",
        unit="answers",
        source="grpo",
    )
    truncated: Literal["train", "mask", "punish"] = setting(
        "train",
        "Treatment of answers that were cut off at the limit on their length: `train` takes them like others; with "
        "`mask` they are in no pair; with `punish` they are wrong.",
        source="grpo",
    )
    beta: PositiveFloat = setting(
        0.1, "Weight of the log-ratios: the larger, the closer the policy stays to the base.", source="TRL's DPOConfig"
    )


class Dpo(GroupMethod):
    """Direct preference optimisation on sampled pairs of a right and a wrong answer: TRL's DPOTrainer."""

    name = "dpo"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = DpoConfig
    config: DpoConfig
    cost = ROLLOUT + REFERENCE + UPDATE
    space: ClassVar[Space] = {**GroupMethod.space, "beta": Dimension(1e-2, 1.0)}

    def spread(self, processes: int) -> None:
        """Refuse several processes.

        Raises:
            Refused: If there are several.
        """
        if processes > 1:
            raise Refused(
                f"method {self.name} trains in one process: in several, those with fewer pairs would leave the others "
                "waiting; leave out --launch"
            )

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's DPOTrainer."""
        from methods.training.dpo_trainer import PairTrainer

        PairTrainer(self.config, loop, folder).train()


def pairs(right: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return pairs of a right and a wrong answer of one group, by their places in the batch.

    Example: a group of a wrong, a right, a right and a wrong answer gives [(1, 0), (2, 3)].

    Args:
        right: Whether each answer is right, [groups, group].
        wrong: Whether each answer is wrong, [groups, group]. An answer that is neither is in no pair.
    """
    places = np.arange(right.size).reshape(right.shape)
    return [
        (int(one), int(other))
        for group, good, bad in zip(places, right, wrong, strict=True)
        for one, other in zip(group[good], group[bad], strict=False)
    ]
