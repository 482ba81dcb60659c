"""Layout of a model: the kind of layer of each weight that moves, and the linear map that it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.models.linear import adaptable_matrices
from bench.models.tensors import movable
from bench.weights.layout import Layout, TensorLayout
from bench.weights.masks import LayerKind

_WORDS: dict[LayerKind, tuple[str, ...]] = {
    "recurrence": (
        "mamba",
        "rglru",
        "recurrentblock",
        "shortconv",
        "linear_attn",
        "deltaattention",
        "lightningattention",
    ),
    "attention": ("attention", "attn"),
    "mlp": ("mlp", "feedforward", "feed_forward", "ffn", "expert", "router"),
}
"""Parts of the class or attribute names of modules, in lower case, such as `LlamaMLP` or `self_attn`. The first kind
counts: a recurrence may be named after attention."""


def layout_of(model: PreTrainedModel) -> Layout:
    """Return the layout of a model, before it is frozen. The model may be on the device `meta`."""
    head, modules, matrices = model.get_output_embeddings(), dict(model.named_modules()), adaptable_matrices(model)
    kinds, found = layer_kinds(model), {}
    for name, parameter in movable(model).items():
        path, _, own = name.rpartition(".")
        owner, shape = modules[path], tuple(parameter.shape)
        is_head = head is not None and getattr(head, "weight", None) is getattr(owner, own)
        linear = None if kinds[name] == "norm" else _linear_map(own, shape, owner, is_head=is_head)
        found[name] = TensorLayout(shape, kinds[name], linear, name in matrices)
    return Layout(found)


def _linear_map(name: str, shape: tuple[int, ...], owner: nn.Module, *, is_head: bool) -> tuple[int, int] | None:
    """Return outputs and inputs of the linear map that a parameter holds; None if it holds none.

    A kernel of a convolution maps its inputs side by side. Experts are one stack of matrices.

    Args:
        name: Name of the parameter in its module.
        shape: Its shape.
        owner: Its module.
        is_head: Whether it computes the logits; a tied embedding does.
    """
    scales_rows = isinstance(owner, nn.Embedding) and not is_head
    if len(shape) < 2 or scales_rows or name.endswith("bias") or name == "A_log":
        return None
    if isinstance(owner, Conv1D):
        return shape[1], shape[0]
    if math.prod(shape[:-1]) == 1 and not isinstance(owner, nn.Linear):
        return None  # multiplies element by element, as the time mix of RWKV does
    if len(shape) == 2 or hasattr(owner, "kernel_size"):
        return shape[0], math.prod(shape[1:])
    return (shape[-1], shape[-2]) if _is_transposed(owner) else (shape[-2], shape[-1])


def _is_transposed(experts: nn.Module) -> bool:
    """Return whether stacked experts hold their matrices as inputs x outputs, as those of GPT-OSS and Llama 4 do.

    Then the inputs of the first product come before its outputs, and are the outputs of the second.
    """
    first, second = getattr(experts, "gate_up_proj", None), getattr(experts, "down_proj", None)
    if not (isinstance(first, nn.Parameter) and isinstance(second, nn.Parameter)):
        return False
    return first.shape[-2] == second.shape[-1]


def layer_kinds(model: PreTrainedModel) -> dict[str, LayerKind]:
    """Return the kind of layer that each parameter of a model that moves belongs to, by the parameter's name.

    The module that owns the parameter decides first: the output head, an embedding, or a class named after a norm. Then
    the modules around it decide, from the inside out, by the names of their classes and attributes. So the norm of
    queries within attention is a norm. A parameter that nothing decides about is `other`, such as those of a module
    that `transformers` keeps directly in the decoder's layer. A head that is tied to the embedding is one parameter
    with it, and is an embedding.
    """
    head, modules = model.get_output_embeddings(), dict(model.named_modules())
    return {name: _kind(list(_around(name, modules)), head) for name in movable(model)}


def _around(parameter: str, modules: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules around a parameter with their attribute names, from the inside out, without the model."""
    path = parameter.rpartition(".")[0]
    while path:
        yield path.rpartition(".")[2], modules[path]
        path = path.rpartition(".")[0]


def _kind(around: list[tuple[str, nn.Module]], head: nn.Module | None) -> LayerKind:
    if not around:
        return "other"
    _, owner = around[0]
    if owner is head:
        return "head"
    if isinstance(owner, nn.Embedding):
        return "embedding"
    if "norm" in type(owner).__name__.lower():
        return "norm"
    for attribute, module in around:
        named = f"{attribute} {type(module).__name__}".lower()
        for kind, words in _WORDS.items():
            if any(word in named for word in words):
                return kind
    return "other"
