"""Losses of the methods that compare the answers of a group, as TRL's GRPOTrainer has them. Pure functions.

For an answer with the tokens t = 1 ... T and the advantage A, let r_t be the probability of a token by its probability
before the batch's first update, and L the limit on the length of an answer.

    dapo      sum of r_t A over all tokens of the update, by their number           A = (reward - mean) / deviation
    grpo      mean over answers of the mean of r_t A over the answer's tokens       A = (reward - mean) / deviation
    dr_grpo   sum of r_t A over all tokens of the update, by answers times L        A = reward - mean
    gspo      mean over answers of s A, s the geometric mean of an answer's r_t     A = (reward - mean) / deviation
    rloo      mean over answers of A times the answer's log-probability             A = reward - mean of the others

With one optimiser step a batch, every ratio is 1, so nothing is clipped. Then `gspo` has the gradient of `grpo`, and
`rloo` that of `dr_grpo` times L G / (G - 1) in groups of G. Where all answers are equally long, `dapo` is `grpo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Loss = Literal["dapo", "grpo", "dr_grpo", "rloo", "gspo"]


@dataclass(frozen=True)
class LossRule:
    """A loss in the terms of TRL's GRPOConfig.

    Attributes:
        loss_type: TRL's name for the way in which the values of tokens are averaged.
        level: Whether there is a probability ratio for each token or for each answer.
        clip: Distances from 1, below and above, beyond which a ratio gives no gradient.
        scaled: Whether advantages are divided by the standard deviation of their group's rewards.
        leave_one_out: Whether the baseline of an answer is the mean reward of the other answers alone.
    """

    loss_type: str
    level: Literal["token", "sequence"] = "token"
    clip: tuple[float, float] = (0.2, 0.2)
    scaled: bool = True
    leave_one_out: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of GRPOConfig, except the scale of advantages."""
        below, above = self.clip
        return {
            "loss_type": self.loss_type,
            "importance_sampling_level": self.level,
            "epsilon": below,
            "epsilon_high": above,
        }


LOSSES: Mapping[Loss, LossRule] = MappingProxyType(
    {
        "dapo": LossRule("dapo", clip=(0.2, 0.28)),
        "grpo": LossRule("grpo"),
        "dr_grpo": LossRule("dr_grpo", scaled=False),
        # The ratio of a single step is 1, and `luspo` then sums the log-probabilities of an answer's tokens.
        "rloo": LossRule("luspo", level="sequence", scaled=False, leave_one_out=True),
        "gspo": LossRule("grpo", level="sequence", clip=(3e-4, 4e-4)),
    }
)
"""Losses by name. Clip ranges are those of the papers: DAPO arXiv 2503.14476, GSPO arXiv 2507.18071, and PPO's .2."""


def leave_one_out(columns: NDArray[np.float64], advantages: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return advantages over the mean reward of the other answers, given those over the mean of the whole group.

    In a group of n scored answers, the former are n / (n - 1) times the latter.

    Args:
        columns: Values of the answers, [functions, groups, group], of which the first are the rewards; NaN marks an
            answer that could not be scored.
        advantages: Differences from the mean reward of the group, [groups, group].
    """
    scored = (~np.isnan(columns[0])).sum(axis=1, keepdims=True)
    return advantages * (scored / np.maximum(scored - 1, 1))
