"""Peers that learn from one another's answers: filtered truncated importance sampling (F-TIS, arXiv 2605.22537).

Several models sample an equal share of each group of answers, and each of them is trained on the whole group. With
pi_k the model that learns and pi_g the one that sampled an answer y, the loss of a token y_t is

    - keep(y) * min(pi_k(y_t) / pi_g(y_t), cap) * A(y) * log pi_k(y_t),

where no gradient flows through the weight, and A is GRPO's advantage in the group of all models' answers. `keep` is 0
if A is negative and the mean of log pi_g(y_t) - log pi_k(y_t) over the answer's tokens exceeds the threshold, else 1.
The sum over all tokens is divided by their number, those of dropped answers included. TRL has both parts: the weight
is its loss `cispo`, and the filter its `off_policy_mask_threshold`.

The weight of a model's own answer is 1, up to the rounding of sampling and training. With one model nothing is off
policy, and the weights learned are those of `grpo` with its default loss, bit for bit.

The rule follows a summary of the paper: shared answers and their log-probabilities, advantages over all of them,
weights truncated from above, and the filter. The summary leaves the following open, so they are our choices: weights of
tokens rather than of answers, the estimate of the divergence by the answer's own tokens, the cap, and the threshold.

Differences from the paper, with reasons:

- Peers are copies of one base. Every one but the first has noise of standard deviation `sigma` in its weights, as a
  candidate of RandOpt has. Without noise, copies that learn from the same answers stay equal. Adapters are drawn anew
  for each copy, so with `lora` copies differ from the first step on, at `sigma=0` too. Peers that are other models are
  not built (docs/not-built.md).
- All models take each step together, in one process.
- The result is the first model, which starts as the base. The others are not tested.

All other settings are those of `grpo` by default, with the same differences from the released baselines. Every model's
sampling and training is billed, so a step of two models costs 7/4 of one of `grpo` of the same batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bench.errors import Refused
from bench.settings import setting
from methods.interface import Dimension, Peer, Training
from methods.space import Space
from methods.training.config import GroupConfig, TrainingConfig
from methods.training.group import ROLLOUT, UPDATE, GroupMethod

if TYPE_CHECKING:
    from methods.training.loop import Loop


class FtisConfig(GroupConfig):
    """Settings of F-TIS, in addition to those of every method that compares the answers of a group."""

    peers: PositiveInt = setting(
        2, "Number of models that share their answers; with 1 this is GRPO.", unit="models", source="our choice"
    )
    sigma: NonNegativeFloat = setting(
        1e-3,
        "Standard deviation of the noise in the initial weights of every model but the first.",
        unit="weights",
        source="the middle one of RandOpt's (arXiv 2603.12228)",
    )
    cap: Annotated[float, Field(ge=1)] = setting(
        2.0,
        "Largest importance weight of a token.",
        source="our choice, the usual one of truncated importance sampling",
    )
    threshold: PositiveFloat = setting(
        0.1,
        "Mean log-ratio of sampler and learner per token above which an answer with a negative advantage is dropped.",
        unit="nats",
        source="our choice (docs/papers.md)",
    )

    @model_validator(mode="after")
    def _shared(self) -> FtisConfig:
        if self.group % self.peers:
            raise ValueError(
                f"peers={self.peers}: each model samples an equal share of a group of {self.group} answers; expected "
                "a divisor of group"
            )
        if self.peers == 1:
            for name in ("sigma", "cap", "threshold"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name}={value}: with peers=1 no other model answers, so it has no effect; leave it out, or "
                        "take more peers"
                    )
        elif not self.sigma and self.lora is None:
            raise ValueError(
                "sigma=0.0: copies that learn from the same answers stay equal; expected more than 0, adapters (lora), "
                "or peers=1"
            )
        return self


class Ftis(GroupMethod):
    """Filtered truncated importance sampling: copies of the base that learn from one another's answers."""

    name = "f-tis"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = FtisConfig
    config: FtisConfig
    space: ClassVar[Space] = {**GroupMethod.space, "sigma": Dimension(1e-4, 1e-2)}
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ({"lora": {"rank": 2}, "sigma": 0.0, "lr": 1e-3},)
    what = "answers, in groups shared by peers"

    @property
    def cost(self) -> float:
        """Estimated cost of one answer, in evaluations: one model samples it, and all of them are updated with it."""
        return ROLLOUT + UPDATE * self.config.peers

    def spread(self, processes: int) -> None:
        """Set the number of training processes.

        Raises:
            Refused: If there are several, and several models.
        """
        if processes > 1 and self.config.peers > 1:
            raise Refused(
                f"method {self.name} trains {self.config.peers} models in one step, which {processes} processes would "
                "not keep equal in all of them; leave out --launch, or take --set peers=1"
            )
        super().spread(processes)

    def learners(self, training: Training) -> list[tuple[Any, float]]:
        """Return the policies of all peers, the first first."""
        further = (training.peer(number, self.config.sigma) for number in range(1, self.config.peers))
        self._peers: list[Peer] = [training, *further]
        return [(peer.model, self.config.lr) for peer in self._peers]

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's GRPOTrainer for all peers."""
        from methods.training.ftis_trainer import SharedGroupTrainer

        SharedGroupTrainer(self.config, loop, folder, self._peers).train()
