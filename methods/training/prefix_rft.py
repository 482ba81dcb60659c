"""Prefix-RFT (arXiv 2507.01679): GRPO in which one answer to each prompt begins with a part of the gold answer.

The first of the G answers to a prompt begins with the first floor(s n) of the n tokens of the gold answer; the model
samples the rest. The share s falls over the planned steps by a cosine:

    s(t) = last + (first - last) (1 + cos(pi t / (T - 1))) / 2,    t = 0, ..., T - 1

The prefix counts as a part of the answer: in its length, its score, its group's mean and the loss. Of the tokens of a
prefix, only the share `entropy_share` at whose place the policy has the highest entropy get a gradient.

Differences from the paper:

- The quantile of the entropy is taken within each prefix, so that it does not depend on the size of a pass.
- Tokens without a gradient count in the number of tokens that TRL's loss is divided by.
- Advantages and loss are those of `grpo` by default; the paper has the loss of Dr. GRPO.
- A prefix leaves at least one token of the limit on the length of an answer.

At `first_share=0` and `last_share=0` this is `grpo`, step for step. At shares of 1 the first answer is the gold one, of
which the model samples the end alone. With `entropy_share=1` the gradient of that answer is its advantage times that of
`sft`, so where all other answers are wrong the method imitates the gold answer and moves away from the others.

The training curve leaves out the answers with a prefix: it shows what the model does by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.settings import setting
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.group import GroupMethod
from tasks.interface import TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop

PAPER = "arXiv 2507.01679"
Share = Annotated[float, Field(ge=0, le=1)]


class PrefixRftConfig(GroupConfig):
    """Settings of Prefix-RFT, in addition to those of every method that compares the answers of a group."""

    first_share: Share = setting(0.95, "Share of the gold answer in a prefix at the first step.", source=PAPER)
    last_share: Share = setting(
        0.05, "Share of the gold answer that a prefix has at the last planned step.", source=PAPER
    )
    entropy_share: Annotated[float, Field(gt=0, le=1)] = setting(
        0.2, "Share of a prefix's tokens that get a gradient: those of the highest entropy.", source=PAPER
    )


class PrefixRft(GroupMethod):
    """Prefix-RFT: GRPO in which one answer to each prompt begins with a part of the gold answer."""

    name = "prefix-rft"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = PrefixRftConfig
    config: PrefixRftConfig
    what = "answers, in groups, one of each with a prefix of the gold answer"
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (*GroupMethod.variants, {"entropy_share": 1.0, "lr": 1e-3})

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if there are no gold answers to begin with, else what `grpo` returns."""
        if task.refused_golds:
            return f"its prefixes are those of gold answers, and {task.refused_golds}; grpo needs none"
        return super().supports(task)

    def refused_engine(self, engine: str) -> str | None:
        """Refuse every engine but the trainable copy itself."""
        if engine == "transformers":
            return None
        return "lets answers begin with given tokens, which vLLM's rollouts cannot; use --engine transformers"

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer with prefixes."""
        from methods.training.prefix_trainer import PrefixTrainer

        PrefixTrainer(self.config, loop, folder).train()


def prefix_share(step: int, steps: int, first: float, last: float) -> float:
    """Return the share of the gold answer that a prefix has at a step.

    Args:
        step: Number of steps done.
        steps: Planned number of steps. The share stays at its last value after them.
        first: Share at the first step.
        last: Share at the last step.
    """
    passed = min(step / max(steps - 1, 1), 1.0)
    return last + (first - last) * (1 + math.cos(math.pi * passed)) / 2


def with_gradient(entropies: NDArray[Any], prefix: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Return which tokens get a gradient: all but those of a prefix whose entropy is not among its highest.

    At least one token of a prefix gets one. Equal entropies at the limit all do.

    Args:
        entropies: Entropy of the policy at each token, [answers, tokens].
        prefix: Whether each token belongs to a prefix, [answers, tokens].
        share: Share of a prefix's tokens that get a gradient.
    """
    kept = ~prefix
    for row, own in enumerate(prefix):
        if count := math.ceil(share * own.sum()):
            limit = np.sort(entropies[row, own])[-count]
            kept[row] |= own & (entropies[row] >= limit)
    return kept
