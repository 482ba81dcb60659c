"""Low-rank adapters on a model of any family."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from bench.compute.modules import folded_cost, is_folded, linear_weights
from bench.compute.probe import decoder_layers
from methods.interface import Lora


def with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Return the model with low-rank adapters on every linear layer but its output head, and on experts."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        target_modules="all-linear",
        exclude_modules=_excluded(model) or None,
    )
    adapted: PreTrainedModel = get_peft_model(model, config)
    return adapted


def adapter_products(model: nn.Module) -> int:
    """Return the multiply-adds that a model's adapters add to a forward pass of one token."""
    linear = sum(
        linear_weights(adapter)
        for module in model.modules()
        if hasattr(module, "lora_A") and not is_folded(module)
        for adapter in (*module.lora_A.values(), *module.lora_B.values())
    )
    return linear + sum(folded_cost(module).products for module in model.modules() if is_folded(module))


def _excluded(model: PreTrainedModel) -> list[str]:
    """Return the names of linear layers that an adapter would break, or that would not run it.

    A kernel for state-space layers reads the weights of their output projection, so an adapter there would not run. A
    subclass of torch.nn.Linear with a forward of its own may be more than a product, such as a router, unless a model
    has no others.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    inner = set(decoder_layers(model).modules())
    plain = {module for module in linear.values() if type(module).forward is nn.Linear.forward}
    special = [name for name, module in linear.items() if module in inner - plain] if inner & plain else []
    spaces = [name for name, module in model.named_modules() if {"A_log", "D"} <= module._parameters.keys()]
    return [*special, *(name for owner in spaces if (name := f"{owner}.out_proj") in linear)]
