"""Size of a sequence's cache, from a model's configuration: keys and values, and states of recurrences.

model on the meta device, one pass of a few tokens    the cache that transformers makes, with the shapes of all tensors
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedConfig, PreTrainedModel

from bench.compute.modules import cache_name
from bench.models.multimodal import meta_model

ATTENTION = "bench_shapes"
"""Name of our attention and mask functions in transformers."""
TOKENS = 8
"""Length of the pass, of which every window keeps at least one token."""


@dataclass(frozen=True)
class CachedLayer:
    """Cache of one layer, of one sequence.

    Attributes:
        kind: Class that holds it: a layer of a transformers cache, the cache, or the model itself.
        token: Values per token.
        window: Maximum number of tokens that are kept; None for all.
        fixed: Values of states, which do not depend on the length.
    """

    kind: type
    token: int
    window: int | None
    fixed: int


def cached_layers(config: PreTrainedConfig) -> tuple[CachedLayer, ...]:
    """Return what a model caches of a sequence.

    Args:
        config: Configuration of a model that `bench.models.multimodal.meta_model` builds.
    """
    model = _built(config)
    before = {id(tensor) for tensor in _held(model)}
    cache = _cache(model)
    layers = [_described(layer) for layer in getattr(cache, "layers", ())]
    beside = [value for name, value in vars(cache).items() if name != "layers"] if cache is not None else []
    within = [tensor for tensor in _held(model) if id(tensor) not in before]
    for holder, states in ((cache, _states(beside)), (model, within)):
        if fixed := sum(tensor.numel() for tensor in states):
            layers.append(CachedLayer(type(holder), 0, None, fixed))
    return tuple(layers)


def cached_values(layers: tuple[CachedLayer, ...], tokens: int, *, windows: bool = True) -> int:
    """Return the number of values that the cache of one sequence holds.

    Args:
        layers: Layers of the cache.
        tokens: Length of the sequence.
        windows: Whether tokens beyond a layer's window are dropped.
    """
    kept = (tokens if layer.window is None or not windows else min(tokens, layer.window) for layer in layers)
    return sum(layer.fixed + layer.token * n for layer, n in zip(layers, kept, strict=True))


def _built(config: PreTrainedConfig) -> PreTrainedModel:
    # These experts run without the tokens' values.
    experts = {"experts_implementation": "batched_mm"}
    try:
        return meta_model(config, attn_implementation=ATTENTION, **experts).eval()
    except (KeyError, ValueError):  # it attends by itself
        return meta_model(config, attn_implementation="eager", **experts).eval()


@torch.no_grad()
def _cache(model: PreTrainedModel) -> Any:
    """Return the cache after a short pass; None if the model has none."""
    ids = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    output = model(input_ids=ids, use_cache=True, return_dict=True)
    if (found := output.get(cache_name(model))) is not None:
        return found
    cache = DynamicCache(config=model.config.get_text_config())  # a model that makes none may take one
    model(input_ids=ids, use_cache=True, past_key_values=cache)
    return cache


def _held(model: nn.Module) -> list[Tensor]:
    """Return the tensors that modules hold as plain attributes."""
    return [value for module in model.modules() for value in vars(module).values() if _filled(value)]


def _described(layer: Any) -> CachedLayer:
    growing: list[Tensor] = [each for name in ("keys", "values") if _filled(each := getattr(layer, name, None))]
    fixed = sum(t.numel() for t in _states([v for k, v in vars(layer).items() if k not in ("keys", "values")]))
    window = getattr(layer, "sliding_window", None)
    # The newest token has left before the next one comes.
    kept = None if window is None else max(int(window) - 1, 1)
    return CachedLayer(type(layer), sum(t.numel() // t.shape[-2] for t in growing), kept, fixed)


def _filled(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim >= 2 and value.numel() > 0


def _states(value: Any) -> list[Tensor]:
    """Return the tensors of a state, or of several."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _states(each)]
    return [value] if _filled(value) else []


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **keywords: Any
) -> tuple[Tensor, None]:
    """Attention function for transformers that returns no values."""
    return query.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None


def _no_mask(*args: Any, **options: Any) -> None:
    return None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _no_mask)
