"""Layers, experts and parameters of a model, without its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from bench.compute.modules import find_decoder
from bench.compute.profile import AttentionLayer, ComputeProfile

CHOSEN = ("top_k", "num_experts_per_tok", "top_k_experts")
"""Attributes of routers, or of their configuration, with the number of experts that a token is sent to."""


def layers_by_kind(model: PreTrainedModel, profile: ComputeProfile) -> dict[str, int]:
    """Return how many decoder layers mix tokens in which way, most frequent first.

    Examples of kinds: `full attention`, `latent attention`, `sliding window of 512`, `chunks of 8,192`, `state space`,
    `linear attention`, `convolution`, `full attention and state space`; `feed-forward alone` for a layer that mixes no
    tokens.

    Args:
        model: Model, also on the meta device.
        profile: Its compute profile.
    """
    named = getattr(model.config.get_text_config(), "layer_types", None) or ()
    kinds: Counter[str] = Counter()
    for index, layer in enumerate(find_decoder(model)[1]):
        attends = dict.fromkeys(
            _attention(call, latent=profile.context > 0) for call in profile.layers if call.layer == index
        )
        recurs = _recurrence(layer, linear=not attends and named[index : index + 1] == ["linear_attention"])
        found = [*attends, *([recurs] if recurs else [])]
        kinds[" and ".join(found) or "feed-forward alone"] += 1
    return dict(kinds.most_common())


def experts(model: PreTrainedModel) -> dict[str, int]:
    """Return how many decoder layers choose how many of their experts for a token, such as `{"2 of 8": 4}`."""
    return dict(Counter(f"{chosen} of {total}" for _, chosen, total in _routed(model)).most_common())


def active_parameters(model: PreTrainedModel) -> int:
    """Return the number of parameters without the experts that a token is not sent to."""
    resting = sum(
        sum(weights.numel() for weights in module.parameters()) * (total - chosen) // total
        for module, chosen, total in _routed(model)
    )
    return sum(weights.numel() for weights in model.parameters()) - resting


def packed_parameters(model: PreTrainedModel) -> int:
    """Return the number of weights of linear layers, with a head that is tied to the embedding."""
    return sum(module.weight.numel() for module in model.modules() if type(module) is nn.Linear)


def _attention(call: AttentionLayer, *, latent: bool) -> str:
    if call.window is None:
        return "latent attention" if latent else "full attention"
    return f"chunks of {call.window:,}" if call.chunked else f"sliding window of {call.window:,}"


def _recurrence(layer: nn.Module, *, linear: bool) -> str | None:
    """Return what a layer mixes tokens with besides attention; None for nothing.

    Args:
        layer: Decoder layer.
        linear: Whether the configuration calls it linear attention.
    """
    names = {name.rpartition(".")[2] for name, _ in layer.named_parameters()}
    if {"A_log", "D"} <= names:
        return "state space"
    if "A_log" in names or linear:
        return "linear attention"
    return "convolution" if any(isinstance(module, nn.Conv1d) for module in layer.modules()) else None


def _routed(model: PreTrainedModel) -> Iterator[tuple[nn.Module, int, int]]:
    """Yield the experts of each decoder layer, how many of them a token is sent to, and how many there are."""
    config = model.config.get_text_config()
    for layer in find_decoder(model)[1]:
        for module in layer.modules():
            total = getattr(module, "num_experts", None)
            if not isinstance(total, int) or not any(weights.ndim == 3 for weights in module.parameters(recurse=False)):
                continue
            owners = (*layer.modules(), config)
            counts = (getattr(owner, name, None) for name in CHOSEN for owner in owners)
            chosen = next((count for count in counts if isinstance(count, int)), total)
            yield module, chosen, total
