"""Low-rank adapters for training: on every linear layer where the adapted model computes what the merged one will."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from bench.compute.modules import folded_cost, is_folded, linear_weights
from bench.compute.probe import decoder_layers
from methods.interface import Lora

READ_BY_KERNELS = ("x_proj", "dt_proj", "out_proj")
"""Linear layers of a state-space mixer whose weights its scan reads, on some machines or on all, without calling them.
An adapter around such a layer would have no effect before it is merged."""


def with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Return a model with adapters on its linear layers except the output head.

    Where peft knows how, the experts of a mixture have adapters too. A layer has none if an adapter around it is not
    the same as one added to its weights: see `_unsuitable`.
    """
    from peft import LoraConfig, get_peft_model

    alpha = 2 * lora.rank if lora.alpha is None else lora.alpha
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        exclude_modules=list(_unsuitable(model)) or None,
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


def _unsuitable(model: PreTrainedModel) -> Iterator[str]:
    """Yield the names of linear layers that can have no adapter of their own.

    These are layers whose weights other layers share (blocks of Zamba 2), those that the scan of a state-space mixer
    reads, and linear layers with a forward pass of their own, which may return more than a product (the router of
    Llama 4), unless a model has no others (Falcon).
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    inner = set(decoder_layers(model).modules())
    plain = {module for module in linear.values() if type(module).forward is nn.Linear.forward}
    for name, module in linear.items():
        around = model.get_submodule(name.rpartition(".")[0])
        of_scan = hasattr(around, "A_log") and hasattr(around, "D") and name.endswith(READ_BY_KERNELS)
        special = module in inner - plain and inner & plain
        if module is not model.get_output_embeddings() and (shared[id(module.weight)] > 1 or of_scan or special):
            yield name
