"""FLOPs of recurrences and causal convolutions by their definition.

Implementations differ: one steps through the tokens, another computes chunks with matrix products and pads the last
one, a third is a kernel that no counter sees. So each is counted by the products of its definition, whatever runs.

Each function below costs `factor * size of one argument * last dimension of another`:

- The gated delta rule (Yang et al. 2025, arXiv 2412.06464) and Kimi delta attention (arXiv 2510.26692): three products
  of a head's state [key width, value width] a token: reading the old value, writing the new one, and the query.
- Mamba (Gu and Dao 2023, arXiv 2312.00752) and Mamba 2 (Dao and Gu 2024, arXiv 2405.21060): two products of a channel's
  state a token, with B and with C.
- A causal depthwise convolution: one product of its kernel a channel and token.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple
from unittest.mock import patch

from torch import nn


@dataclass(frozen=True, slots=True)
class Foreign:
    """FLOPs per token of a module that is no torch.nn.Linear, without those of the modules in it.

    Attributes:
        products: Matrix products and convolutions, such as those of experts and routers.
        states: Products of recurrences, which have no weights, by their definition.
    """

    products: int = 0
    states: int = 0


class _Definition(NamedTuple):
    factor: int
    values: str
    states: str

    def cost(self, given: Mapping[str, Any]) -> Foreign:
        """Return the cost of a call with these arguments."""
        flops = self.factor * given[self.values].numel() * given[self.states].shape[-1]
        return Foreign(products=flops) if self is _CONVOLUTION else Foreign(states=flops)


_DELTA_RULE = _Definition(6, "value", "key")
_CONVOLUTION = _Definition(2, "hidden_states", "weight")
_FUNCTIONS = {
    "causal_conv1d_fn": _CONVOLUTION,
    "causal_conv1d_update": _CONVOLUTION,
    "chunk_kimi_delta_attention": _DELTA_RULE,
    "mamba2_chunk_scan": _Definition(4, "hidden_states", "B"),
    "mamba2_selective_state_update": _Definition(4, "hidden_states", "B"),
    "mamba_selective_scan": _Definition(4, "hidden_states", "A"),
    "mamba_selective_state_update": _Definition(4, "hidden_states", "A"),
    "recurrent_kimi_delta_attention": _DELTA_RULE,
    "torch_chunk_gated_delta_rule": _DELTA_RULE,
    "torch_recurrent_gated_delta_rule": _DELTA_RULE,
}
"""Functions of transformers' modeling files, by name."""


def _lightning_attention(module: Any, tokens: int) -> Foreign:
    """Two products of each head's state [width, width] (Qin et al. 2024, arXiv 2401.04658)."""
    return Foreign(states=4 * int(module.num_attention_heads) * int(module.head_dim) ** 2 * tokens)


def _gated_linear_recurrence(module: Any, tokens: int) -> Foreign:
    """The convolution's kernel and the weights of both gates, once each (De et al. 2024, arXiv 2402.19427)."""
    weights = module.conv_1d.weight, module.rg_lru.input_gate_weight, module.rg_lru.recurrent_gate_weight
    return Foreign(products=2 * sum(int(each.numel()) for each in weights) * tokens)


_MODULES: dict[str, Callable[[Any, int], Foreign]] = {
    "MiniMaxLightningAttention": _lightning_attention,
    "RecurrentGemmaRecurrentBlock": _gated_linear_recurrence,
}
"""FLOPs of modules that hold their recurrence in their own forward, beside their torch.nn.Linear layers."""


@contextmanager
def defined(model: nn.Module, begin: Callable[[str, Foreign], Any], end: Callable[[Any], None]) -> Iterator[None]:
    """Report every recurrence and convolution of a model while the block runs.

    Args:
        model: Model of transformers.
        begin: Called with a recurrence's name and its cost by its definition before it runs.
        end: Called with the result of `begin` after it ran.
    """
    with ExitStack() as stack:
        for module in model.modules():
            if formula := _MODULES.get(type(module).__name__):
                _report_module(stack, module, formula, begin, end)
        for file in {sys.modules[type(module).__module__] for module in model.modules()}:
            for name, definition in _FUNCTIONS.items():
                if function := getattr(file, name, None):
                    stack.enter_context(patch.object(file, name, _reporting(function, name, definition, begin, end)))
        yield


def _report_module(
    stack: ExitStack,
    module: nn.Module,
    formula: Callable[[Any, int], Foreign],
    begin: Callable[[str, Foreign], Any],
    end: Callable[[Any], None],
) -> None:
    open_: list[Any] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering = args[0] if args else next(iter(kwargs.values()))
        open_.append(begin(type(module).__name__, formula(module, entering.shape[0] * entering.shape[1])))

    def after(*_: object) -> None:
        end(open_.pop())

    for hook in (
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, always_call=True),
    ):
        stack.callback(hook.remove)


def _reporting(
    function: Callable[..., Any],
    name: str,
    definition: _Definition,
    begin: Callable[[str, Foreign], Any],
    end: Callable[[Any], None],
) -> Callable[..., Any]:
    # The model may have a kernel of another package here, which knows no meta device.
    plain = inspect.unwrap(function)
    signature = inspect.signature(plain)

    @wraps(function)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        opened = begin(name, definition.cost(given))
        try:
            return plain(*args, **kwargs)
        finally:
            end(opened)

    return reporting
