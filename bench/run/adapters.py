"""Low-rank adapters for training: on every linear layer where the adapted model computes what the merged one will."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.compute.modules import linear_weights
from bench.models.linear import adaptable_layers
from bench.models.tensors import held
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


@torch.no_grad()
def merged(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the tensors that `held` returns after adapters are merged, without a change of the model.

    Tensors that have no adapter are the model's own and not copies.

    Args:
        model: The model that adapters were added to, or one without adapters.
    """
    layers, found = dict(model.named_modules()), {}
    for name, tensor in held(model).items():
        layer, adapted, own = name.rpartition(".base_layer.")
        if adapted and own == "weight":
            around: Any = layers[layer]
            tensor = tensor + sum(around.get_delta_weight(adapter) for adapter in around.active_adapters)
        if adapted:
            found[f"{layer}.{own}"] = tensor
        elif ".lora_" not in name:
            found[name] = tensor
    return found
