"""Displacements of low-rank noise as LoRA adapters of vLLM, handed over in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from bench.engines.added import thin_factors
from bench.weights.layout import Layout
from bench.weights.points import Point

RANKS = (1, 8, 16)
"""Ranks that vLLM's adapters can have, up to the most terms of a group. One of another rank is filled up with zeros."""
NOWHERE = "none"
"""Path of adapters, which vLLM asks for and never opens, because they are loaded before their first request."""


def padded_rank(rank: int) -> int:
    """Return the rank of the adapters that hold displacements of a rank."""
    return next(each for each in RANKS if each >= rank)


def add_adapters(manager: Any, model: PreTrainedModel, layout: Layout, displacements: Sequence[Point]) -> None:
    """Load an adapter for each displacement, numbered from 1.

    Args:
        manager: The LoRA manager of a vLLM worker.
        model: The transformers model, whose names the noise is drawn by.
        layout: Layout of the model.
        displacements: Displacements of low-rank noise.

    Raises:
        ValueError: If a layer is one that vLLM's adapters do not reach. It would be left out without an error.
    """
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    adapters = manager._adapter_manager
    mapper = getattr(adapters.model, "hf_to_vllm_mapper", None)
    layers = dict(model.named_modules())
    for number, each in enumerate(displacements, 1):
        tensors: dict[str, torch.Tensor] = {}
        for name, inner, outer in thin_factors(layers, layout, each):
            tensors |= {
                f"base_model.model.{name}.lora_A.weight": torch.from_numpy(inner),
                f"base_model.model.{name}.lora_B.weight": torch.from_numpy(outer).T,
            }
        adapter = LoRAModel.from_lora_tensors(
            number,
            tensors,
            PEFTHelper(r=each.rank, lora_alpha=each.rank, target_modules=[]),  # scaled by alpha / r, which is 1
            device="cpu",
            dtype=manager.lora_config.lora_dtype,
            weights_mapper=None if mapper is None else mapper.get_rename_mapper(),
        )
        adapters.add_adapter(adapter)
        if missing := sorted(adapter.loras.keys() - adapters.modules.keys()):
            raise ValueError(f"no adapter reaches {missing[0]}")


def multiply_by_masks(manager: Any) -> None:
    """Let the layers of a vLLM on a CPU multiply by all adapters at once.

    vLLM's own functions for a CPU copy the factors of its adapter for every token, which doubles the time of a prompt.

    Args:
        manager: The LoRA manager of a vLLM worker.
    """
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    for wrapper in manager._adapter_manager.punica_wrapper_mapping.values():
        if isinstance(wrapper, PunicaWrapperCPU):
            wrapper.add_lora_linear = partial(add_products, wrapper)


def add_products(
    wrapper: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    inner: tuple[torch.Tensor, ...],
    outer: tuple[torch.Tensor, ...],
    scale: float,
    widths: tuple[int, ...],
) -> None:
    """Add to each token of a layer the product of its adapter. What other adapters add is an exact zero.

    Args:
        wrapper: Says which adapter each token has.
        y: Outputs of the layer [tokens, outputs], changed in place.
        x: Inputs [tokens, inputs].
        inner: Factors of the inputs, for each part of the outputs [adapters, 1, rank, inputs].
        outer: Factors of the outputs [adapters, 1, width, rank].
        scale: Factor of the products, which is in the factors already.
        widths: Number of outputs of each part.
    """
    assert scale == 1
    if wrapper.no_lora:
        return
    adapters, _, rank, _ = inner[0].shape
    columns = torch.arange(adapters).repeat_interleave(rank)
    others = wrapper.token_lora_indices[:, None] != columns
    thin = (x @ torch.cat([each.flatten(0, 2) for each in inner]).T).unflatten(1, (len(inner), -1))
    thin.masked_fill_(others[:, None], 0)
    for i, (part, each) in enumerate(zip(y.split(widths, dim=1), outer, strict=True)):
        part.addmm_(thin[:, i], each.squeeze(1).mT.flatten(0, 1))
