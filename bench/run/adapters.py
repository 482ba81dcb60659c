"""Low-rank adapters for training: on every linear layer where the adapted model computes what the merged one will."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.compute.modules import find_decoder, linear_weights
from bench.models.tensors import held
from methods.interface import Lora

READ_BY_KERNELS = ("x_proj", "dt_proj", "out_proj")
"""Linear layers of a state-space mixer whose weights its scan reads, on some machines or on all, without calling them.
An adapter around such a layer would have no effect before it is merged."""


def with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Return a model with adapters on its linear layers except the output head.

    Experts that are one stack of matrices have none: PEFT would add whole matrices to them in each pass, which costs
    more than the experts themselves when few tokens are sampled at a time. Nor has a layer whose adapter would not be
    the same as one added to its weights: see `_targets`.
    """
    from peft import LoraConfig, get_peft_model
    from peft.utils import transformers_weight_conversion

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        target_modules=_targets(model),
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


def _targets(model: PreTrainedModel) -> list[str]:
    """Return the names of the linear layers that can have adapters.

    These are all but the output head, layers whose weights other layers share (blocks of Zamba 2), those that the scan
    of a state-space mixer reads, and linear layers with a forward pass of their own, which may return more than a
    product (the router of Llama 4), unless a model has no others (Falcon).
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    _, layers = find_decoder(model)
    inner = set(layers.modules())
    plain = {module for module in linear.values() if type(module).forward in (nn.Linear.forward, Conv1D.forward)}
    special = inner - plain if inner & plain else set()
    found = []
    for name, module in linear.items():
        parent, _, own = name.rpartition(".")
        around = model.get_submodule(parent)
        of_scan = hasattr(around, "A_log") and hasattr(around, "D") and own in READ_BY_KERNELS
        unsuitable = shared[id(module.weight)] > 1 or of_scan or module in special
        if module is not model.get_output_embeddings() and not unsuitable:
            found.append(name)
    return found
