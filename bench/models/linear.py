"""Linear layers of a model that can have a low-rank change of their own, such as an adapter."""

from __future__ import annotations

from collections import Counter

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.compute.modules import find_decoder

READ_BY_KERNELS = ("x_proj", "dt_proj", "out_proj")
"""Linear layers of a state-space mixer whose weights its scan reads, on some machines or on all, without calling them.
An adapter around such a layer would have no effect before it is merged."""


def adaptable_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of the linear layers in which an adapter computes what the merged weights will.

    These are all but the output head, layers whose weights other layers share (blocks of Zamba 2), those that the scan
    of a state-space mixer reads, and linear layers with a forward pass of their own, which may return more than a
    product (the router of Llama 4), unless a model has no others (Falcon). Experts that are one stack of matrices are
    no linear layers.
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


def adaptable_matrices(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the weights of these layers."""
    return frozenset(f"{name}.weight" for name in adaptable_layers(model))
