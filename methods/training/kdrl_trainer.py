"""TRL's GRPOTrainer with the divergence from a teacher in its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from methods.training.kdrl import annealed
from methods.training.loop import Loop
from methods.training.trainers import GROUP_COLUMNS, GroupTrainer

if TYPE_CHECKING:
    from methods.training.kdrl import KdrlConfig


class TaughtGroupTrainer(GroupTrainer):
    """GRPO whose loss has the k2 estimate of the divergence from a teacher.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.
    """

    columns: ClassVar[Mapping[str, str]] = GROUP_COLUMNS | {"divergence": "divergence"}

    def __init__(self, config: KdrlConfig, loop: Loop, folder: str) -> None:
        super().__init__(config, loop, folder)
        self._config = config
        # Prepared like the policy, so that both compute in one precision.
        self._teacher = self.accelerator.prepare_model(loop.training.teacher(config.teacher), evaluation_mode=True)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        ids, mask = (
            torch.cat([output[f"prompt_{part}"], output[f"completion_{part}"]], dim=1) for part in ("ids", "mask")
        )
        taught = torch.tensor(
            [
                not self._config.on_wrong or (not score.correct and score.status != "infrastructure")
                for score in self._loop.scores
            ],
            device=ids.device,
        )
        logprobs = torch.zeros(output["completion_ids"].shape, device=ids.device)
        if taught.any():
            with torch.no_grad():
                found, *_ = self._get_per_token_logps_and_entropies(
                    self._teacher,
                    ids[taught],
                    mask[taught],
                    logprobs.shape[1],
                    batch_size=self.args.per_device_train_batch_size,
                )
            logprobs[taught] = found.float()
        return output | {"taught": taught, "teacher_logprobs": logprobs}

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any, Any]:
        found: tuple[torch.Tensor, Any, Any] = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if torch.is_grad_enabled():
            self._logprobs = found[0]  # of the policy, for the loss
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        # The number of tokens of the whole batch, which GRPO's loss is divided by too.
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        mask = inputs["completion_mask"] * inputs["taught"][:, None]
        divergence = (k2(self._logprobs, inputs["teacher_logprobs"]) * mask).sum() / tokens
        whole = self.accelerator.gather(divergence.detach() * self.current_gradient_accumulation_steps)
        self._metrics["train"]["divergence"].append(whole.mean().item())  # the log has the mean over the passes
        beta = annealed(self._config.beta, self._config.beta_end, self._loop.step, self._loop.schedule.steps)
        return loss + beta * divergence


def k2(policy: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return half the squared log-ratio of each token, whose gradient is that of KL(policy || teacher) on average.

    Args:
        policy: Log-probability of each sampled token under the policy, [answers, tokens].
        teacher: The same under the teacher.
    """
    return (policy - teacher).square() / 2
