"""Kinds of layers: which weights of a model are embedding, attention, recurrence, MLP, norm or output head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from torch import nn
from transformers import PreTrainedModel

from bench.models.tensors import movable

LayerKind = Literal["embedding", "attention", "recurrence", "mlp", "norm", "head", "other"]
"""Kind of a layer. Recurrences are scans and short convolutions along the text; experts and their routers are MLPs."""
LAYER_KINDS: tuple[LayerKind, ...] = get_args(LayerKind)

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
