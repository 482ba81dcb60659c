"""Low-rank adapters for training: on every linear layer where the adapted model computes what the merged one will."""

from __future__ import annotations

from unittest.mock import patch

from torch import nn
from transformers import PreTrainedModel

from bench.compute.modules import linear_weights
from bench.models.linear import adaptable_layers
from methods.interface import Lora


def with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Return a model with adapters on its linear layers except the output head.

    Experts that are one stack of matrices have none: PEFT would add whole matrices to them in each pass, which costs
    more than the experts themselves when few tokens are sampled at a time. Nor has a layer whose adapter would not be
    the same as one added to its weights: see `adaptable_layers`.
    """
    from peft import LoraConfig, get_peft_model
    from peft.utils import transformers_weight_conversion

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        target_modules=adaptable_layers(model),
    )
    # PEFT would take some names of linear layers for experts, which had these names in earlier versions.
    with patch.object(transformers_weight_conversion, "convert_peft_config_for_transformers"):
        adapted: PreTrainedModel = get_peft_model(model, config)
    return adapted


def adapter_products(model: nn.Module) -> int:
    """Return the multiply-adds that a model's adapters add to a forward pass of one token."""
    return sum(
        linear_weights(adapter)
        for module in model.modules()
        if hasattr(module, "lora_A")
        for adapter in (*module.lora_A.values(), *module.lora_B.values())
    )
