"""FLOPs of a step of GRPO by the attached meter, held against PyTorch's counter, for tests and measurements.

    agreement = training_agreement("mixtral", lora=True, checkpointing=True)
    python tests/families/training_agreement.py [FAMILY ...]

A step samples answers with a cache, computes their log-probabilities without one, and updates the weights. Meter and
counter both include padding. The counter would take masked positions and the chunks of a recurrence for work, so
attention, recurrences and causal convolutions count here by their definitions: once in the forward pass, and twice in
the backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from tiny_families import FAMILIES, make
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode

from bench.compute.attach import attach
from bench.compute.ledger import PhaseBook, Work, hardware_flops
from bench.run.adapters import with_adapters
from methods.interface import Lora

LENGTHS, NEW = (45, 29, 38), 9
"""Lengths of the prompts, the first of them the longest, and number of tokens of each answer."""


class TrainingAgreement(NamedTuple):
    """FLOPs of a step, including padding.

    Attributes:
        ours: By the attached meter.
        counter: By PyTorch's counter.
    """

    ours: int
    counter: int

    @property
    def ratio(self) -> float:
        """Ours by the counter's."""
        return self.ours / self.counter


def training_agreement(family: str, *, lora: bool, checkpointing: bool) -> TrainingAgreement:
    """Return the FLOPs of a step of a family's tiny model.

    Args:
        family: A key of `FAMILIES`.
        lora: Whether to train adapters instead of all parameters.
        checkpointing: Whether the backward pass recomputes the layers' activations.
    """
    torch.manual_seed(0)
    model: Any = make(family, attn_implementation="eager")
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    if lora:
        model = with_adapters(model, Lora(rank=4))
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    book = PhaseBook(lambda work: None)
    with attach(model, book, role="policy", pad_id=0) as attached, Reference(model) as reference:
        _step(model)
    return TrainingAgreement(hardware_flops(attached.profile, sum(book.phases().values(), Work())), reference.flops)


def _step(model: Any) -> None:
    width = max(LENGTHS)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, model.config.get_text_config().vocab_size, (len(LENGTHS), width), generator=draw)
    mask = (torch.arange(width) >= width - torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.where(mask.bool(), ids, 0)
    sequences = model.eval().generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=True, use_cache=True
    )
    mask = torch.cat([mask, torch.ones(len(LENGTHS), NEW, dtype=torch.long)], dim=1)
    with torch.no_grad():
        old = _logprobs(model, sequences, mask)
    new = _logprobs(model.train(), sequences, mask)
    advantages = torch.tensor([1.0, -1.0, 0.5])[:, None]
    (-(new - old).exp() * advantages).mean().backward()


def _logprobs(model: Any, sequences: Tensor, mask: Tensor) -> Tensor:
    logits = model(input_ids=sequences, attention_mask=mask, use_cache=False).logits[:, -NEW - 1 : -1]
    return torch.log_softmax(logits, dim=-1).gather(-1, sequences[:, -NEW:, None])[..., 0]


class Reference:
    """PyTorch's counter with attention, scans and causal convolutions by their definitions.

    Args:
        model: Model with eager attention.

    Attributes:
        flops: FLOPs so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: _grouped})
        self._defined = self._excluded = 0
        files = {type(module).__module__ for module in model.modules()}
        self._modules = [sys.modules[name] for name in files if "modeling" in name]
        self._replaced: list[tuple[Any, str, Any]] = []
        self._hooks: list[Any] = []

    @property
    def flops(self) -> int:
        return int(self._counter.get_total_flops()) - self._excluded + self._defined

    def __enter__(self) -> Reference:
        for module in self._modules:
            for name, flops in DEFINITIONS.items():
                if (function := getattr(module, name, None)) is not None:
                    self._replace(module, name, self._by_definition(function, flops))
        for module in self._model.modules():
            if isinstance(module, nn.Conv1d):
                convolve = self._by_definition(module._conv_forward, _convolution)
                self._replace(module, "forward", partial(_call_convolution, module, convolve))
            if type(module).__name__ == "MiniMaxLightningAttention":
                # Its recurrence is in its own forward, as products of chunks.
                file = sys.modules[type(module).__module__]
                without = {"matmul": self._by_definition(torch.matmul, lambda *_: 0)}
                self._replace(file, "torch", SimpleNamespace(**(vars(torch) | without)))
                self._hooks.append(module.register_forward_hook(self._after_lightning))
        by_itself = any("Attention" in type(module).__name__ for module in self._model.modules())
        if by_itself and not any(hasattr(module, "eager_attention_forward") for module in self._modules):
            for decoder in (m for m in self._model.modules() if type(m) is type(self._model.get_decoder())):
                self._hooks.append(decoder.register_forward_pre_hook(self._without_masked, with_kwargs=True))
        self._counter.__enter__()
        return self

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def _after_lightning(self, module: Any, args: Any, output: Any) -> None:
        cost = 4 * output[0].shape[:2].numel() * module.num_attention_heads * module.head_dim**2
        self._defined += cost
        if output[0].requires_grad:
            output[0].register_hook(partial(self._add, 2 * cost))

    def _add(self, cost: int, gradient: Tensor) -> None:
        self._defined += cost

    def _without_masked(self, decoder: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Exclude the masked half of attention, of a decoder whose layers attend to all earlier positions."""
        rows, width = (args[0] if args else kwargs["input_ids"]).shape
        config = decoder.config
        passes = 3 + decoder.is_gradient_checkpointing if torch.is_grad_enabled() else 1
        masked = width * (width - 1) // 2
        self._excluded += passes * 4 * config.hidden_size * config.num_hidden_layers * rows * masked

    def __exit__(self, *error: object) -> None:
        self._counter.__exit__(*error)
        for hook in self._hooks:
            hook.remove()
        for owner, name, value in reversed(self._replaced):
            setattr(owner, name, value)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        before, excluded = self._counter.get_total_flops(), self._excluded
        yield
        self._excluded = excluded + self._counter.get_total_flops() - before

    def _by_definition(self, function: Callable[..., Any], flops: Callable[..., int]) -> Callable[..., Any]:
        """Return the function with its FLOPs by a definition, in the forward pass and twice in the backward pass."""

        def replaced(*args: Any, **kwargs: Any) -> Any:
            cost = flops(*args, **kwargs)
            leaves, spec = tree_flatten((args, kwargs))
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]

            def run(*given: Tensor) -> Any:
                remaining = iter(given)
                whole = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
                positional, named = tree_unflatten(whole, spec)
                return function(*positional, **named)

            with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
            if not with_gradient:
                self._defined += cost
                with self._paused():
                    return run(*tensors)
            box = SimpleNamespace(spec=None)
            # Both factors of a product have a gradient, but for the weights of a convolution that are not trained.
            frozen = flops is _convolution and not tensors[1].requires_grad
            found = _Opaque.apply(self, cost, cost if frozen else 2 * cost, run, box, *tensors)
            return tree_unflatten(list(found), box.spec)

        return replaced


class _Opaque(torch.autograd.Function):
    """Function whose operations are hidden from the counter, and whose FLOPs are given."""

    @staticmethod
    def forward(
        ctx: Any, reference: Reference, cost: int, backward: int, run: Callable[..., Any], box: Any, *tensors: Tensor
    ) -> Any:
        reference._defined += cost
        # The function's own graph is kept whole, so that a checkpoint does not recompute within it.
        whole = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
        with reference._paused(), torch.enable_grad(), whole:
            given = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
            found, box.spec = tree_flatten(run(*given))
        ctx.state = reference, backward, given, found
        return tuple(leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        reference, backward, given, found = ctx.state
        reference._defined += backward
        wanted = [t for t in given if t.requires_grad]
        ends = [(f, g) for f, g in zip(found, gradients, strict=True) if isinstance(f, Tensor) and f.requires_grad]
        with reference._paused():
            found = iter(
                torch.autograd.grad(
                    [f for f, _ in ends], wanted, [g for _, g in ends], retain_graph=True, allow_unused=True
                )
            )
        return None, None, None, None, None, *(next(found) if t.requires_grad else None for t in given)


def _rows(mask: Tensor | None, queries: int, keys: int) -> int:
    """Return the positions that the queries of the first row attend to, which has no padding."""
    if mask is None:
        return sum(range(keys - queries + 1, keys + 1))
    visible = mask if mask.dtype == torch.bool else mask == 0
    return int(visible[0, 0, :, :keys].sum())


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *_: Any, **__: Any
) -> int:
    rows, heads, queries, width = query.shape
    return 2 * rows * heads * (width + value.shape[-1]) * _rows(attention_mask, queries, key.shape[2])


def _delta_rule(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return 6 * value.numel() * key.shape[-1]


def _selective_scan(hidden: Tensor, dt: Tensor, a: Tensor, *_: Any, **__: Any) -> int:
    return 4 * hidden.numel() * a.shape[-1]


def _chunk_scan(hidden: Tensor, dt: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 4 * hidden.numel() * b.shape[-1]


def _state_update(state: Tensor, *_: Any, **__: Any) -> int:
    return 4 * state.numel()


def _convolution(hidden: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * hidden.numel() * weight.shape[-1]


def _call_convolution(module: Any, convolve: Callable[..., Tensor], hidden: Tensor) -> Tensor:
    return convolve(hidden, module.weight, module.bias)


def _convolution_update(hidden: Tensor, state: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * hidden.numel() * weight.shape[-1]


def _grouped(input_shape: Any, weight_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    # Rows of the input meet one matrix each: [rows, in] x [experts, in, out], or for the gradient of the weights
    # [in, rows] x [rows, out].
    if len(weight_shape) == 3:
        return 2 * input_shape[0] * input_shape[1] * weight_shape[2]
    return 2 * input_shape[0] * input_shape[1] * weight_shape[1]


DEFINITIONS: dict[str, Callable[..., int]] = {
    "eager_attention_forward": _attention,
    "torch_chunk_gated_delta_rule": _delta_rule,
    "torch_recurrent_gated_delta_rule": _delta_rule,
    "chunk_kimi_delta_attention": _delta_rule,
    "recurrent_kimi_delta_attention": _delta_rule,
    "mamba_selective_scan": _selective_scan,
    "mamba_selective_state_update": _state_update,
    "mamba2_chunk_scan": _chunk_scan,
    "mamba2_selective_state_update": _state_update,
    "causal_conv1d_fn": _convolution,
    "causal_conv1d_update": _convolution_update,
}
"""FLOPs of functions of transformers' modeling files by their definitions."""


if __name__ == "__main__":
    import warnings

    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    for name in sys.argv[1:] or FAMILIES:
        cells = []
        for lora in (False, True):
            for checkpointing in (False, True):
                try:
                    cells.append(f"{training_agreement(name, lora=lora, checkpointing=checkpointing).ratio:.7f}")
                except Exception as error:  # the table shows what failed
                    cells.append(f"{type(error).__name__}: {error}"[:110])
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
