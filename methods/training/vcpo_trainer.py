"""TRL's GRPOTrainer with the weights, the baseline and the learning rates of VCPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence

from bench.errors import Refused
from methods.training.loop import Loop
from methods.training.trainers import GROUP_COLUMNS, GroupTrainer
from methods.training.vcpo import Array, capped, effective_share, recentred

if TYPE_CHECKING:
    from methods.training.vcpo import VcpoConfig


class VarianceControlledTrainer(GroupTrainer):
    """GRPO whose advantages are those of VCPO, for the weights of the moment.

    The trainer is given no older log-probabilities, so its ratio is 1 and its gradient that of the log-probability. The
    importance weights of the answers are part of the advantages, which each forward pass determines.

    Args:
        config: Settings.
        loop: Training loop.
        folder: Temporary folder for the trainer's files.

    Raises:
        Refused: If a process's part of an update does not fit one pass.
    """

    columns: ClassVar[Mapping[str, str]] = GROUP_COLUMNS | {"ess": "ess"}

    def __init__(self, config: VcpoConfig, loop: Loop, folder: str) -> None:
        processes, updates = loop.training.ranks.world_size, config.steps_per_batch
        part, most = loop.schedule.batch // processes // updates, loop.training.batch_size
        if part > most:
            raise Refused(
                f"an update with {part} answers does not fit one pass of {most}, and its learning rate depends on all "
                f"of them; take a --set batch of at most {most * processes * updates}, or a larger --batch-size"
            )
        self._config = config
        super().__init__(config, loop, folder, loss=config.loss, updates=updates)
        if config.baseline == "weighted":
            loop.training.model.register_forward_hook(self._keep_logits)

    def _keep_logits(self, _: Any, __: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self._logits = output.logits.detach()

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        start = self.accelerator.process_index * len(inputs)
        scored = ~torch.isnan(self._gathered[start : start + len(inputs), 0])
        return output | {"scored": scored, "place": torch.arange(len(inputs), device=scored.device)}

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        before = self._buffered_inputs
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is not before and len(self._buffered_inputs) > 1:
            # The trainer has shuffled the answers. Each part must consist of whole groups.
            parts, order = self._buffered_inputs, torch.cat([part["place"] for part in self._buffered_inputs]).argsort()
            for name in [name for name, value in inputs.items() if value.ndim]:
                values = torch.cat([part[name] for part in parts])[order].chunk(len(parts))
                for part, value in zip(parts, values, strict=True):
                    part[name] = value
            inputs = parts[0]
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._part = dict(inputs)
        self._before = self._part.pop("old_per_token_logps", None)
        loss: torch.Tensor = super()._compute_loss(model, self._part)
        return loss

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            # Those before the first update are known from sampling, without a pass.
            return pad_sequence([r.logprobs for r in self._training.rollouts], batch_first=True), None, None
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._weigh(found[0].detach())
        return found

    def _weigh(self, logprobs: torch.Tensor) -> None:
        """Set the advantages and the learning rate of an update, which takes this pass alone.

        Args:
            logprobs: Log-probabilities of the answers' tokens, [answers, tokens].
        """
        part, mask = self._part, self._part["completion_mask"]
        before = logprobs if self._before is None else self._before
        log_weights = ((logprobs - before) * mask).sum(dim=1).double()
        everyone, tokens = self.accelerator.gather((log_weights, mask.sum(dim=1)))
        share = effective_share(everyone[tokens > 0].cpu().numpy())
        self._metrics["train"]["ess"].append(share)
        for group in self._loop.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share**0.5  # the scheduler sets it back after the step
        order = part["place"].argsort()

        def grouped(values: torch.Tensor) -> Array:
            found: Array = values[order].double().cpu().numpy().reshape(-1, self._group)
            return found

        advantages, weights = grouped(part["advantages"]), grouped(log_weights)
        if self._config.baseline == "weighted":
            norms = grouped((self._norms(logprobs) * mask).sum(dim=1))
            advantages = recentred(advantages, weights, norms, grouped(part["scored"]) > 0)
        weighed = torch.as_tensor(capped(weights, self._config.cap) * advantages).flatten()
        part["advantages"] = torch.empty_like(part["advantages"])
        part["advantages"][order] = weighed.to(part["advantages"])

    def _norms(self, logprobs: torch.Tensor) -> torch.Tensor:
        """Return |onehot - p|^2 = 1 - 2 p(token) + sum of p^2 of each token of the answers, [answers, tokens]."""
        tokens = logprobs.shape[1]
        rows = []
        for logits in self._logits[:, :-1][:, -tokens:]:  # row by row, because a vocabulary can be large
            scores = torch.log_softmax(logits.float() / self.temperature, dim=-1)
            rows.append((2 * scores).exp().sum(dim=-1))
        del self._logits
        return 1 - 2 * logprobs.exp() + torch.stack(rows)
