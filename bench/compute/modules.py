"""Parts of a PyTorch model that a meter hooks, recognised by their properties, and what they cost."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from bench.compute.classes import is_multimodal
from bench.compute.scans import Foreign
from bench.errors import UsageError


class Cost(NamedTuple):
    """Multiply-adds of a module that has run.

    Attributes:
        products: Of its forward pass.
        gradients: Of its backward pass; 0 if it has none.
        output: Its output, if that has a gradient.
    """

    products: int
    gradients: int
    output: Tensor | None


def find_decoder(model: nn.Module) -> tuple[Any, nn.ModuleList]:
    """Return a model's decoder of text, and the stack of its layers.

    Raises:
        UsageError: If the model has none or more than one.
    """
    found: list[tuple[nn.Module, nn.ModuleList]] = []
    seen: set[nn.Module] = set()
    configs = (module.config for module in model.modules() if isinstance(module, PreTrainedModel))
    text = next((type(config.text_config) for config in configs if is_multimodal(config)), None)
    for module in model.modules():
        own = getattr(module, "config", None)
        layers = getattr(own, "num_hidden_layers", None)
        stacks = [child for child in module.children() if isinstance(child, nn.ModuleList) and len(child) == layers]
        if stacks and text in (None, type(own)) and module not in seen:  # other parts have decoders of their own
            # Beside the layers there may be as many small modules, and in a layer as many experts.
            found.append((module, max(stacks, key=lambda stack: sum(each.numel() for each in stack.parameters()))))
            seen.update(module.modules())
    if len(found) != 1:
        raise UsageError(
            f"{type(model).__name__} holds {len(found)} decoders (modules with a configuration and an nn.ModuleList of "
            "num_hidden_layers layers): exactly one is needed"
        )
    return found[0]


def named_module(decoder: nn.Module, name: str) -> nn.Module:
    """Return a module of the decoder by its name, below the adapters that wrap it.

    Raises:
        UsageError: If there is none.
    """
    module: Any = decoder
    for part in name.split(".") if name else ():
        module = getattr(module, part, None)
        while isinstance(wrapped := getattr(module, "base_layer", None), nn.Module):
            module = wrapped
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"the model has no module {name}, which its configuration promises: fused or foreign layers cannot be "
            "metered"
        )
    return module


def cache_name(module: nn.Module) -> str:
    """Return the name of a model's or decoder's argument for its cache."""
    return "cache_params" if "cache_params" in inspect.signature(module.forward).parameters else "past_key_values"


def cached_tokens(cache: Any) -> int:
    """Return the number of tokens in a cache. States alone do not count theirs: 1 if there are any."""
    lengths = [int(layer.get_seq_length()) for layer in cache.layers if hasattr(layer, "get_seq_length")]
    if lengths:
        return max(lengths)
    return int(any(any(layer.has_previous_state.values()) for layer in cache.layers))


def has_gradient(module: nn.Module, entering: Tensor) -> bool:
    """Return whether the module's pass over an input has a backward pass."""
    trained = entering.requires_grad or any(parameter.requires_grad for parameter in module.parameters())
    return torch.is_grad_enabled() and trained


def linear_cost(module: nn.Module, given: Tensor, output: Any) -> Cost:
    """Return the cost of a `torch.nn.Linear` that has run. Its backward pass has up to two products, as its forward."""
    products, leaving = linear_weights(module) * given.shape[:-1].numel(), _with_gradient(output)
    gradients = 0 if leaving is None else int(given.requires_grad) + int(module.weight.requires_grad)
    return Cost(products, gradients * products, leaving)


def linear_weights(linear: nn.Module) -> int:
    """Return the number of weights of a `torch.nn.Linear`."""
    return int(linear.in_features * linear.out_features)


def foreign_cost(foreign: Foreign, module: nn.Module, entering: Iterable[Any], output: Any, tokens: int) -> Cost:
    """Return the cost of another module.

    Args:
        foreign: Its FLOPs per token.
        module: The module.
        entering: Its arguments.
        output: Its output; None if an exception stopped it.
        tokens: Number of tokens that it ran for.
    """
    products, states, leaving = foreign.products // 2 * tokens, foreign.states // 2 * tokens, _with_gradient(output)
    if output is None and [weight.dim() for weight in _matrices(module)] == [2]:
        # A checkpointed layer runs again up to its last product, whose result the backward pass does not need. Here it
        # is the only one. Other modules have activations after their products that the backward pass needs.
        return Cost(0, 0, None)
    if leaving is None:
        return Cost(products + states, 0, None)
    weights = _matrices(module)
    trained, all_ = sum(w.numel() for w in weights if w.requires_grad), sum(w.numel() for w in weights)
    linear = [part.weight for part in module.modules() if isinstance(part, nn.Linear)]
    enters = any(isinstance(value, Tensor) and value.requires_grad for value in (*entering, *linear))
    # Without weights, a product is one of two activations, and both have a gradient.
    gradients = products * enters + (products * trained // all_ if weights else products)
    return Cost(products + states, gradients + 2 * states, leaving)


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return the matrices that a module multiplies with by itself, not by the linear layers in it."""
    parts = [part for part in module.modules() if not isinstance(part, nn.Linear)]
    return [weight for part in parts for weight in part.parameters(recurse=False) if weight.dim() > 1]


def _with_gradient(output: Any) -> Tensor | None:
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad), None)
