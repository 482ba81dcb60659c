"""Counted passes of a model on the meta device, with an attention function of our own. See `bench.compute.measured`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from bench.compute.modules import cache_name, find_decoder
from bench.compute.patterns import LONGEST, Mask
from bench.compute.scans import Foreign, defined
from bench.errors import UsageError

ATTENTION = "bench_measured"
"""Name of our attention and mask functions in transformers."""
NOT_CHOOSING = {"cache_position", "position_ids", "s_aux"}
"""Tensors that models give to attention, and that do not change to which positions a token attends."""

aten = torch.ops.aten
FORMULAS = {
    aten.addmv: lambda bias, matrix, vector, **_: 2 * matrix[0] * matrix[1],
    aten.dot: lambda left, right, **_: 2 * left[0],
    aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1],
}
"""FLOPs of operations that torch's counter lacks, as functions of the arguments' shapes."""


def build(config: PreTrainedConfig, model_class: type[PreTrainedModel] | None, attention: str) -> PreTrainedModel:
    """Return a model without weights on the meta device.

    Args:
        config: Configuration of a causal language model.
        model_class: Class of the model; None for the one that transformers chooses.
        attention: Name of the attention function.
    """
    config = copy.deepcopy(config)
    config.pad_token_id = None  # or some models look for padding in the tokens
    _fix_rotary_frequencies(config)
    maker = AutoModelForCausalLM.from_config if model_class is None else model_class._from_config
    with torch.device("meta"), no_init_weights():
        # These experts gather the weights of the tokens' experts. The other kinds branch on the tokens' values.
        model: PreTrainedModel = maker(config, attn_implementation=attention, experts_implementation="batched_mm")
    return model.eval()


def _fix_rotary_frequencies(config: PreTrainedConfig) -> None:
    """Replace rotary frequencies that depend on the tokens' positions by fixed ones, which cost the same."""

    def fixed(rope: Any) -> Any:
        if not isinstance(rope, dict):
            return rope
        if "dynamic" in str(rope.get("rope_type")):
            return {**rope, "rope_type": "default"}
        return {name: fixed(value) for name, value in rope.items()}  # some models have entries by kind of layer

    if rope := getattr(config, "rope_parameters", None):
        config.rope_parameters = fixed(rope)
    for name in config.sub_configs:
        if isinstance(part := getattr(config, name, None), PreTrainedConfig):
            _fix_rotary_frequencies(part)


@dataclass(slots=True)
class Call:
    """A call of attention as it was made."""

    module: nn.Module
    layer: int
    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    queries: int
    positions: int
    mask: Mask | None
    keywords: dict[str, Any]

    @property
    def pair(self) -> int:
        """FLOPs of one query position and one key position."""
        return 2 * self.heads * (self.key_width + self.value_width)


class _Opened(NamedTuple):
    """Counts when a recurrence began: the module that runs it, its cost, and FLOPs without linear layers until then."""

    name: str | None
    cost: Foreign
    products: int
    foreign: dict[str, Foreign]


@dataclass(slots=True)
class Pass:
    """Counts of one pass.

    Attributes:
        tokens: Number of tokens.
        kept: Number of positions whose logits are computed.
        calls: Calls of attention.
        mixers: Names of recurrences that ran.
        products: FLOPs of all but attention.
        linear: FLOPs among these of called torch.nn.Linear layers.
        foreign: FLOPs among these of the decoder's other modules, by name.
        head: FLOPs of the output head.
        masks: Masks of this pass.
        layer: Index of the decoder layer that runs; -1 outside them.
    """

    tokens: int
    kept: int
    calls: list[Call] = field(default_factory=list)
    mixers: set[str] = field(default_factory=set)
    products: int = 0
    linear: int = 0
    foreign: dict[str, Foreign] = field(default_factory=dict)
    head: int = 0
    masks: list[Mask] = field(default_factory=list)
    layer: int = -1

    @property
    def flops(self) -> int:
        """FLOPs with attention under its masks."""
        return self.products + sum(call.pair * call.positions for call in self.calls)

    def mask_of(self, given: Tensor | None) -> Mask | None:
        """Return the mask that a call was given, whole or a part of its rows."""
        if given is None:
            return None
        storage = given.untyped_storage().data_ptr()
        for mask in self.masks:
            if not given.is_meta and mask.values.untyped_storage().data_ptr() == storage:
                return mask
        raise UsageError("it changes its attention masks, which a window or sparse attention may need")


_CURRENT: ContextVar[Pass] = ContextVar("bench_measured_pass")


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **keywords: Any
) -> tuple[Tensor, None]:
    """Attention function for transformers that notes its call and returns no values."""
    current = _CURRENT.get()
    rows, heads, queries, width = query.shape
    mask, keys = current.mask_of(attention_mask), key.shape[2]
    if mask is not None:
        positions = int(attention_mask.sum()) if attention_mask is not None else 0
    elif getattr(module, "is_causal", True) and keywords.get("sliding_window") is None:
        positions = queries * (keys - queries) + queries * (queries + 1) // 2
    else:
        raise UsageError("it attends without a mask and not to all earlier positions")
    layer = current.layer
    if layer < 0:
        raise UsageError("it attends outside its decoder layers")
    for name, given in keywords.items():
        if isinstance(given, Tensor) and name not in NOT_CHOOSING:
            raise UsageError(f"it gives attention a tensor {name}, which may choose the positions to attend to")
    call = Call(module, layer, heads, key.shape[1], width, value.shape[-1], queries, positions, mask, keywords)
    current.calls.append(call)
    return query.new_empty(rows, queries, heads, value.shape[-1]), None


def _make_mask(*args: Any, **options: Any) -> Tensor:
    names = ("batch_size", "q_length", "kv_length", "q_offset", "kv_offset")
    mask = Mask(**dict(zip(names, args, strict=False)), **options)
    _CURRENT.get().masks.append(mask)
    return mask.values


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _make_mask)


class Probe:
    """A model on the meta device whose passes are counted.

    Args:
        model: The model.

    Attributes:
        layers: Its decoder layers.
        decoder: The module that holds them.
        keeps: Whether its logits can be limited to the last positions.
        positions: Number of positions that it is made for, with room for one more token.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.decoder, self.layers = find_decoder(model)
        self._arguments = inspect.signature(model.forward).parameters
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.positions = LONGEST if positions is None else max(int(positions) - 1, 1)
        self.keeps = "logits_to_keep" in self._arguments
        self._cache_name = cache_name(model)
        self._gives_cache = False

    def prefill(self, tokens: int, kept: int | None) -> tuple[Pass, Any]:
        """Return the counts of a pass of a prompt, and its cache.

        Args:
            tokens: Length of the prompt.
            kept: Number of last positions whose logits are computed; None for all.
        """
        cache = DynamicCache(config=self.model.config.get_text_config()) if self._gives_cache else None
        counts, output = self._run(tokens, kept, cache)
        cache = cache if cache is not None else output.get(self._cache_name)
        if cache is None and self._cache_name == "past_key_values":
            self._gives_cache = True
            return self.prefill(tokens, kept)
        return counts, cache

    def step(self, cache: Any) -> Pass:
        """Return the counts of a pass of one token after a cache."""
        return self._run(1, None, cache)[0]

    def _run(self, tokens: int, kept: int | None, cache: Any) -> tuple[Pass, Any]:
        given: dict[str, Any] = {"use_cache": True}
        if self.keeps and kept is not None:
            given["logits_to_keep"] = kept
        if cache is not None:
            given[self._cache_name] = cache
        ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
        counts = Pass(tokens, tokens if kept is None or not self.keeps else kept)
        token = _CURRENT.set(counts)
        try:
            with torch.no_grad(), self._counting(counts):
                output = self.model(input_ids=ids, return_dict=True, **given)
        finally:
            _CURRENT.reset(token)
        return counts, output

    @contextmanager
    def _counting(self, counts: Pass) -> Iterator[None]:
        counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
        booked = 0
        names = {module: name for name, module in self.decoder.named_modules() if not isinstance(module, nn.Linear)}
        running: list[str | None] = [None]

        def add(name: str | None, cost: Foreign) -> None:
            counts.products += cost.products + cost.states
            if name is not None:
                before = counts.foreign.get(name, Foreign())
                counts.foreign[name] = Foreign(before.products + cost.products, before.states + cost.states)

        def book() -> None:
            """Book what was counted since the last call to the innermost module that runs."""
            nonlocal booked
            total = counter.get_total_flops()
            add(running[-1], Foreign(total - booked))
            booked = total

        def enter(module: nn.Module, *_: object) -> None:
            book()
            running.append(names.get(module))

        def leave(*_: object) -> None:
            book()
            running.pop()

        def enter_layer(index: int, *_: object) -> None:
            counts.layer = index

        def leave_layer(*_: object) -> None:
            counts.layer = -1

        def after_linear(module: nn.Linear, args: tuple[Tensor], output: object) -> None:
            counts.linear += 2 * module.weight.numel() * (args[0].numel() // module.in_features)

        def after_head(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            counts.head += 2 * output.numel() * args[0].shape[-1]

        def begin(name: str, cost: Foreign) -> _Opened:
            book()
            counts.mixers.add(name)
            return _Opened(running[-1], cost, counts.products - counts.linear, dict(counts.foreign))

        def end(opened: _Opened) -> None:
            # Linear layers that ran inside count as they are; the rest is replaced by the definition.
            book()
            counts.products, counts.foreign = opened.products + counts.linear, opened.foreign
            add(opened.name, opened.cost)

        head = self.model.get_output_embeddings()
        hooks = [
            *(module.register_forward_pre_hook(enter) for module in self.model.modules()),
            *(module.register_forward_hook(leave) for module in self.model.modules()),
            *(layer.register_forward_pre_hook(partial(enter_layer, i)) for i, layer in enumerate(self.layers)),
            *(layer.register_forward_hook(leave_layer) for layer in self.layers),
            *(m.register_forward_hook(after_linear) for m in self.model.modules() if isinstance(m, nn.Linear)),
            *([head.register_forward_hook(after_head)] if head is not None else []),
        ]
        try:
            with counter, defined(self.model, begin, end):
                yield
                book()
        finally:
            for hook in hooks:
                hook.remove()
