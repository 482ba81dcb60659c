"""Tensors of a model under the names that they have in it: which ones move, and which ones a checkpoint holds.

The files of a checkpoint may hold other tensors than the model. Mixtral's model has one tensor for the experts of a
layer, `model.layers.0.mlp.experts.down_proj` [experts, hidden, inner], and its files have one for each expert, such as
`model.layers.0.block_sparse_moe.experts.7.w2.weight` [hidden, inner]. transformers converts them when it loads and
saves. Moves write the model's own tensors, so noise and digests go by the model's names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from bench.models.multimodal import meta_model, text_model
from bench.models.opening import open_config, open_model


def movable(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the parameters that a move through weight space and training change, each storage once.

    These are the floating-point ones that the class of the model does not freeze. `from_pretrained` forgets that, and
    `open_model` restores it. Take them before the model is frozen. Tied heads and shared blocks have one name.
    """
    found = model.named_parameters()
    return {name: each.detach() for name, each in found if each.requires_grad and each.is_floating_point()}


def held(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return all tensors that a checkpoint of a model holds, each storage once: parameters and persistent buffers.

    Buffers belong to it because some decide the answers, such as the bias that a router adds to the scores of experts.
    """
    persistent = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {name: each.detach() for name, each in model.named_parameters()} | buffers


def as_filed(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors under the names and in the form that `save_pretrained` gives them in the files of a checkpoint.

    Args:
        model: The model.
        tensors: All that `held` returns, or as many others of these names and shapes.
    """
    filed: dict[str, torch.Tensor] = revert_weight_conversion(model, dict(tensors))
    return filed


def files_hold_tensors_of_model(folder: Path) -> bool:
    """Return whether the files of a checkpoint folder hold the tensors of the model as they are in it."""
    model = meta_model(open_config(folder))
    own = held(model)
    filed = as_filed(model, own)
    if filed.keys() != own.keys() or any(filed[name] is not tensor for name, tensor in own.items()):
        return False
    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            stored |= set(opened.keys())
    return stored == own.keys()


def read_held(folder: Path) -> dict[str, torch.Tensor]:
    """Return what `held` returns for the model of a checkpoint folder, each in the dtype that it is deployed in.

    Raises:
        UsageError: If the folder does not hold exactly the model's weights.
    """
    return held(open_model(folder, "auto"))


def deployed_dtypes(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Return the dtype of each tensor of `held` when the model is loaded in a dtype.

    Some models keep a part in float32, such as the decay rates of OLMo Hybrid (`A_log`).

    Args:
        model: The model, in any dtype.
        dtype: Dtype that it is loaded in.
    """
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in held(model).items()}
    loaded = type(model).from_pretrained(
        None, config=copy.deepcopy(model.config), state_dict=state, device_map={"": "meta"}, dtype=dtype
    )
    return {name: tensor.dtype for name, tensor in held(text_model(loaded)[0]).items()}
