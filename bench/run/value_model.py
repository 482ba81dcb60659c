"""Value model of any family, as TRL's PPOTrainer takes it."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from bench.compute.modules import find_decoder


class ValueModel(nn.Module):
    """The decoder of a causal model with a scalar value head, initialised to zero, instead of the LM head.

    PPOTrainer calls the attribute that `base_model_prefix` names, and `score` with the last of its hidden states.

    Args:
        model: The causal model. Its decoder is taken over.
    """

    base_model_prefix = "run"

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model, _ = find_decoder(model)
        width = model.get_output_embeddings().weight.shape[1]
        self.score = nn.Linear(width, 1, bias=False, device=model.device, dtype=model.dtype)
        nn.init.zeros_(self.score.weight)

    def run(self, **given: Any) -> ModelOutput:
        """Return the decoder's output as the only hidden state. Some families' own list of states ends with another."""
        output = self.model(**given | {"output_hidden_states": False})
        return ModelOutput(hidden_states=(output.last_hidden_state,))
