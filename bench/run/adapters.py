"""Low-rank adapters on a model of any family."""

from __future__ import annotations

from unittest.mock import patch

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.compute.modules import find_decoder, linear_weights
from methods.interface import Lora


def with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Return the model with low-rank adapters on every linear layer but its output head.

    Experts that are one stack of matrices stay as they are. PEFT would add whole matrices to them in each pass, which
    costs more than the experts themselves when few tokens are sampled at a time.
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


def _targets(model: PreTrainedModel) -> list[str]:
    """Return the names of the linear layers that an adapter changes as it should.

    A kernel for state-space layers reads the weights of their output projection, so an adapter there would not run. A
    subclass of torch.nn.Linear with a forward of its own may be more than a product, such as a router, unless a model
    has no others.
    """
    _, layers = find_decoder(model)
    head, inner = model.get_output_embeddings(), set(layers.modules())
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head}
    special = {m for m in inner if isinstance(m, nn.Linear) and type(m).forward is not nn.Linear.forward}
    if not any(m in inner - special for m in linear.values()):
        special = set()
    spaces = [name for name, module in model.named_modules() if {"A_log", "D"} <= module._parameters.keys()]
    fused = {f"{name}.out_proj" for name in spaces}
    return [name for name, module in linear.items() if module not in special and name not in fused]
