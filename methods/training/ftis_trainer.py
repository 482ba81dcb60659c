"""TRL's GRPOTrainer for several models that share their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from methods.interface import Peer, Rollout
from methods.training.loop import Loop
from methods.training.trainers import GROUP_COLUMNS, GroupTrainer

if TYPE_CHECKING:
    from methods.training.ftis import FtisConfig


class SharedGroupTrainer(GroupTrainer):
    """GRPOTrainer whose model is the first peer. The others sample, and are trained, in the same steps.

    TRL clips and clears the gradient of its own model only. Hooks of the optimiser do the same for the others.

    Args:
        config: Settings.
        loop: Training loop, whose modules are the peers' models.
        folder: Temporary folder for the trainer's files.
        peers: The peers.
    """

    columns: ClassVar[Mapping[str, str]] = GROUP_COLUMNS | {"dropped": "dropped"}
    model_wrapped: Any

    def __init__(self, config: FtisConfig, loop: Loop, folder: str, peers: Sequence[Peer]) -> None:
        self._peers = peers
        options: dict[str, Any] = {
            "loss_type": "cispo",
            "epsilon_high": config.cap,
            "off_policy_mask_threshold": config.threshold,
        }
        super().__init__(config, loop, folder, **options)
        self._others = [self.accelerator.prepare_model(peer.model, evaluation_mode=True) for peer in peers[1:]]
        loop.optimizer.register_step_pre_hook(self._clip)
        loop.optimizer.register_step_post_hook(self._clear)

    def _clip(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups[1:]:
            nn.utils.clip_grad_norm_(group["params"], self.args.max_grad_norm)

    def _clear(self, *_: Any) -> None:
        for other in self._others:
            other.zero_grad()

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        share, first = self._group // len(self._peers), self.model_wrapped
        found: dict[int, Rollout] = {}
        try:
            for number, peer in enumerate(self._peers):
                rows = [row for row in range(len(prompt_ids)) if row % self._group // share == number]
                self.model_wrapped = peer.model if number else first
                super()._generate_single_turn([prompt_ids[row] for row in rows], *args, **kwargs)
                found |= dict(zip(rows, peer.rollouts, strict=True))
        finally:
            self.model_wrapped = first
        self._loop.rollouts = rollouts = [found[row] for row in range(len(prompt_ids))]
        # A model alone is on policy, and its weights are exactly 1 without the rounding of another pass.
        logprobs = [rollout.logprobs.tolist() for rollout in rollouts] if self._others else None
        return [list(rollout.answer) for rollout in rollouts], logprobs

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if (sampled := output.get("sampling_per_token_logps")) is not None:
            output["old_per_token_logps"] = sampled
        return output

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the loss of the first model, with the gradients of all."""
        loss: torch.Tensor = super().compute_loss(model, inputs, *args, **kwargs)
        for other in self._others:
            its = super().compute_loss(other, inputs, *args, **kwargs)
            loss = loss + (its - its.detach())
        return loss

    def get_off_policy_mask(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return TRL's mask of the answers to keep, and log the share of the others."""
        kept: torch.Tensor = super().get_off_policy_mask(*args, **kwargs)
        self._metrics["train"]["dropped"].append(1.0 - kept.float().mean().item())
        return kept
