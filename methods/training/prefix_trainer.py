"""TRL's GRPOTrainer with answers that begin with a part of the gold answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from methods.training.loop import Loop
from methods.training.prefix_rft import prefix_share, with_gradient
from methods.training.trainers import GroupTrainer

if TYPE_CHECKING:
    from methods.training.prefix_rft import PrefixRftConfig


class PrefixTrainer(GroupTrainer):
    """GRPO in which the first answer to each prompt begins with a part of the gold answer.

    TRL multiplies the loss of each token by a mask from `get_high_entropy_mask`. Here that mask concerns the tokens of
    prefixes alone.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
    """

    def __init__(self, config: PrefixRftConfig, loop: Loop, folder: str) -> None:
        self._config = config
        encode = loop.training.tokenizer.encode
        self._golds = {p.id: encode(p.gold, add_special_tokens=False) for p in loop.training.prompts}
        super().__init__(config, loop, folder, prefix=self._begin)
        self.top_entropy_quantile = config.entropy_share  # below 1, TRL asks for the mask

    def _begin(self, example: str, place: int) -> list[int]:
        if place > 0:
            return []
        config, gold = self._config, self._golds[example]
        share = prefix_share(self._loop.step, self._loop.schedule.steps, config.first_share, config.last_share)
        return gold[: min(int(share * len(gold)), self._training.max_new_tokens - 1)]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        lengths = torch.tensor([[rollout.prefix] for rollout in self._training.rollouts])
        places = torch.arange(output["completion_ids"].shape[1])
        return output | {"prefix_mask": (places < lengths).to(output["completion_ids"].device)}

    def _compute_loss(self, model: Any, inputs: Any) -> torch.Tensor:
        self._prefix_mask = inputs["prefix_mask"]
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss

    def get_high_entropy_mask(self, entropies: torch.Tensor, mask: torch.Tensor, threshold: float) -> torch.Tensor:
        """Return which tokens get a gradient.

        Args:
            entropies: Entropy of the policy at each token, [answers, tokens].
            mask: Whether each token counts, [answers, tokens].
            threshold: TRL's quantile, which is 1 minus the share of the configuration.
        """
        values, prefix = entropies.float().cpu().numpy(), self._prefix_mask.cpu().numpy()
        kept = with_gradient(values, prefix, self._config.entropy_share)
        return torch.as_tensor(kept).to(mask.device) & mask.bool()
