"""Compute profile of any causal language model of transformers, measured from the model itself.

The model is built on the meta device, which has shapes and no values, so neither weights nor memory are needed. It runs
a few short passes under torch's FLOP counter with an attention function of our own, which notes the widths of each call
and computes nothing. Recurrences count by their definition, see `bench.compute.scans`. The costs of the profile follow
from three passes, or from the closed form of the family where there is one. Two more passes at another length must cost
exactly what the profile says.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

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

from bench.compute.flops import closed_form
from bench.compute.patterns import Mask, Pattern
from bench.compute.profile import AttentionLayer, ComputeProfile
from bench.compute.scans import defined
from bench.errors import UsageError

ATTENTION = "bench_measured"
"""Name of our attention and mask functions in transformers."""
PROBED, CHECKED, KEPT = 24, 41, 3
"""Tokens of the passes that give the profile and of those that check it, and positions kept in the latter."""
ATTENDS_TO_ALL = ("bloom", "falcon", "gptj")
"""Model types whose attention is not transformers' interface, and attends to all earlier positions in every layer.

Their modeling files say so. A count cannot: eager attention with a window computes the full square too.
"""

aten = torch.ops.aten
FORMULAS = {
    aten.addmv: lambda bias, matrix, vector, **_: 2 * matrix[0] * matrix[1],
    aten.dot: lambda left, right, **_: 2 * left[0],
    aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1],
}
"""FLOPs of operations that torch's counter lacks, as functions of the arguments' shapes."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """One call of transformers' attention interface in a forward pass.

    Attributes:
        layer: Index of the decoder layer that makes the call.
        layer_idx: Attribute of this name of the calling module: its place in the cache. None if it has none.
        heads: Number of query heads.
        kv_heads: Number of key and value heads.
        key_width: Width of a head's queries and keys.
        value_width: Width of a head's values.
        pattern: Positions that a token attends to.
        late: Whether the call is for the positions alone whose logits are computed.
        sliding_window: Keyword argument of this name.
        keywords: Names of all keyword arguments that are not None.
    """

    layer: int
    layer_idx: int | None
    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    pattern: Pattern
    late: bool
    sliding_window: int | None
    keywords: frozenset[str]

    def as_layer(self) -> AttentionLayer:
        """Return the call's entry in a profile."""
        pair = 2 * self.heads * (self.key_width + self.value_width)
        return AttentionLayer(pair, *self.pattern, late=self.late, layer=self.layer)


@dataclass(frozen=True, slots=True)
class Measured:
    """Properties of a model that a few passes on the meta device show.

    Attributes:
        profile: Compute profile.
        calls: Calls of attention through transformers' interface, in order. Empty if the model attends by itself, when
            only `profile.layers` is known, or has no attention.
        mixers: Names of recurrences and convolutions that carry states from token to token.
        foreign: FLOPs per token of each decoder layer that are neither attention nor a torch.nn.Linear that was called:
            experts, routers, convolutions, recurrences.
        foreign_outside: The same outside the decoder layers.
    """

    profile: ComputeProfile
    calls: tuple[AttentionCall, ...]
    mixers: frozenset[str]
    foreign: tuple[int, ...]
    foreign_outside: int

    @property
    def cached_values(self) -> int:
        """Values of keys and values per token that attention is given, without recurrent states.

        Latent attention may store fewer, from which it expands them. A model that attends by itself may too, with fewer
        key heads than query heads.
        """
        if self.calls:
            return sum(call.kv_heads * (call.key_width + call.value_width) for call in self.calls)
        return sum(layer.pair // 2 for layer in self.profile.layers)


def measure(config: PreTrainedConfig, model_class: type[PreTrainedModel] | None = None) -> Measured:
    """Measure a model's costs from its configuration.

    Args:
        config: Configuration of a causal language model.
        model_class: Class of the model; None for the one that transformers chooses.

    Raises:
        UsageError: If the model cannot be built, its cost depends on the tokens' values (sparse masks, routing by
            data), or its passes do not cost what the profile says.
    """
    kind, shape = str(config.model_type), closed_form(config)
    try:
        if kind in ATTENDS_TO_ALL:
            return _fitted(_Probe(_build(config, model_class, "eager")))
        probe = _Probe(_build(config, model_class, ATTENTION))
        return _probed(probe) if shape is None else _verified(probe, shape.profile())
    except UsageError as error:
        raise UsageError(f"model_type is {kind!r}: its FLOPs cannot be measured: {error}") from None
    except Exception as error:  # of the model's own code, which may need values where there are only shapes
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise UsageError(
            f"model_type is {kind!r}: its FLOPs cannot be measured, because its code does not run without values "
            f"({reason}): what it computes may depend on them, as in sparse attention and routing by data"
        ) from error


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the stack of a model's decoder layers.

    Raises:
        UsageError: If there is none.
    """
    stacks = [
        child
        for module in model.modules()
        for child in module.children()
        if isinstance(child, nn.ModuleList)
        and len(child) == getattr(getattr(module, "config", None), "num_hidden_layers", None)
    ]
    if not stacks:
        raise UsageError(f"{type(model).__name__} has no nn.ModuleList of num_hidden_layers layers")
    return max(stacks, key=lambda stack: sum(weights.numel() for weights in stack.parameters()))


def _build(config: PreTrainedConfig, model_class: type[PreTrainedModel] | None, attention: str) -> PreTrainedModel:
    maker = AutoModelForCausalLM.from_config if model_class is None else model_class._from_config
    with torch.device("meta"), no_init_weights():
        # These experts gather the weights of the tokens' experts. The other kinds branch on the tokens' values.
        model: PreTrainedModel = maker(
            copy.deepcopy(config), attn_implementation=attention, experts_implementation="batched_mm"
        )
    return model.eval()


@dataclass(slots=True)
class _Call:
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
        return 2 * self.heads * (self.key_width + self.value_width)


@dataclass(slots=True)
class _Pass:
    """Counts of one pass.

    Attributes:
        layers: Number of decoder layers.
        kept: Number of positions whose logits are computed.
        calls: Calls of attention.
        mixers: Names of recurrences that ran.
        counted: FLOPs of each decoder layer, and of everything outside them as the last entry; without attention.
        linear: FLOPs of called torch.nn.Linear layers, likewise.
        head: FLOPs of the output head.
        masks: Masks of this pass.
        layer: Entry of the decoder layer that runs.
    """

    layers: int
    kept: int
    calls: list[_Call] = field(default_factory=list)
    mixers: set[str] = field(default_factory=set)
    counted: list[int] = field(default_factory=list)
    linear: list[int] = field(default_factory=list)
    head: int = 0
    masks: list[Mask] = field(default_factory=list)
    layer: int = -1

    def __post_init__(self) -> None:
        self.counted, self.linear = [0] * (self.layers + 1), [0] * (self.layers + 1)

    @property
    def products(self) -> int:
        """FLOPs of all but attention."""
        return sum(self.counted)

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


_CURRENT: ContextVar[_Pass] = ContextVar("bench_measured_pass")


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
    call = _Call(module, layer, heads, key.shape[1], width, value.shape[-1], queries, positions, mask, keywords)
    current.calls.append(call)
    return query.new_empty(rows, queries, heads, value.shape[-1]), None


def _make_mask(*args: Any, **options: Any) -> Tensor:
    names = ("batch_size", "q_length", "kv_length", "q_offset", "kv_offset")
    mask = Mask(**dict(zip(names, args, strict=False)), **options)
    _CURRENT.get().masks.append(mask)
    return mask.values


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _make_mask)


class _Probe:
    """A model on the meta device whose passes are counted.

    Args:
        model: The model.

    Attributes:
        layers: Its decoder layers.
        keeps: Whether its logits can be limited to the last positions.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.layers = decoder_layers(model)
        self._arguments = inspect.signature(model.forward).parameters
        self.keeps = "logits_to_keep" in self._arguments
        self._cache_name = "past_key_values" if "past_key_values" in self._arguments else "cache_params"
        self._gives_cache = False

    def prefill(self, tokens: int, kept: int | None) -> tuple[_Pass, Any]:
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

    def step(self, cache: Any) -> _Pass:
        """Return the counts of a pass of one token after a cache."""
        return self._run(1, None, cache)[0]

    def _run(self, tokens: int, kept: int | None, cache: Any) -> tuple[_Pass, Any]:
        given: dict[str, Any] = {"use_cache": True}
        if self.keeps and kept is not None:
            given["logits_to_keep"] = kept
        if cache is not None:
            given[self._cache_name] = cache
        ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
        counts = _Pass(len(self.layers), tokens if kept is None or not self.keeps else kept)
        token = _CURRENT.set(counts)
        try:
            with torch.no_grad(), self._counting(counts):
                output = self.model(input_ids=ids, return_dict=True, **given)
        finally:
            _CURRENT.reset(token)
        return counts, output

    @contextmanager
    def _counting(self, counts: _Pass) -> Iterator[None]:
        counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
        booked = 0

        def book(entry: int) -> None:
            """Book to an entry what was counted since the last call."""
            nonlocal booked
            total = counter.get_total_flops()
            counts.counted[entry] += total - booked
            booked = total

        def enter_layer(index: int, *_: object) -> None:
            book(counts.layer)
            counts.layer = index

        def leave_layer(index: int, *_: object) -> None:
            book(index)
            counts.layer = -1

        def after_linear(module: nn.Linear, args: tuple[Tensor], output: object) -> None:
            counts.linear[counts.layer] += 2 * module.weight.numel() * (args[0].numel() // module.in_features)

        def after_head(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            counts.head += 2 * output.numel() * args[0].shape[-1]

        def begin(name: str, flops: int) -> tuple[int, int, int]:
            book(counts.layer)
            counts.mixers.add(name)
            return flops, counts.counted[counts.layer], counts.linear[counts.layer]

        def end(opened: tuple[int, int, int]) -> None:
            # Linear layers that ran inside count as they are; the rest is replaced by the definition.
            book(counts.layer)
            flops, counted, linear = opened
            counts.counted[counts.layer] = counted + flops + counts.linear[counts.layer] - linear

        head = self.model.get_output_embeddings()
        hooks = [
            *(layer.register_forward_pre_hook(partial(enter_layer, i)) for i, layer in enumerate(self.layers)),
            *(layer.register_forward_hook(partial(leave_layer, i)) for i, layer in enumerate(self.layers)),
            *(m.register_forward_hook(after_linear) for m in self.model.modules() if isinstance(m, nn.Linear)),
            *([head.register_forward_hook(after_head)] if head is not None else []),
        ]
        try:
            with counter, defined(self.model, begin, end):
                yield
                book(-1)
        finally:
            for hook in hooks:
                hook.remove()


def _probed(probe: _Probe) -> Measured:
    """Measure a model that attends through transformers' interface, or not at all."""
    every, _ = probe.prefill(PROBED, None)
    one, cache = probe.prefill(PROBED, 1)
    step = probe.step(cache)
    head = Fraction(every.products - one.products, PROBED - 1) if probe.keeps else Fraction(every.head, PROBED)
    context = (step.products - Fraction(every.products, PROBED)) / PROBED
    token = Fraction(every.products, PROBED) - head - context
    calls = _described(probe, every, [later.queries == 1 for later in one.calls])
    layers = tuple(call.as_layer() for call in calls)
    profile = ComputeProfile(_whole("token", token), _whole("head", head), _whole("context", context), layers)
    _check(profile, *_check_passes(probe))
    return Measured(profile, calls, frozenset(every.mixers | step.mixers), *_foreign(every, every.counted, PROBED))


def _verified(probe: _Probe, profile: ComputeProfile) -> Measured:
    """Hold the closed form of a model against its passes."""
    prompt, step = _check_passes(probe)
    calls = _described(probe, prompt, [call.queries < CHECKED for call in prompt.calls])
    if (layers := tuple(call.as_layer() for call in calls)) != profile.layers:
        raise UsageError(
            f"its layers attend as {_summary(layers)}, and its closed form says {_summary(profile.layers)}"
        )
    _check(profile, prompt, step)
    return Measured(profile, calls, frozenset(prompt.mixers | step.mixers), *_foreign(prompt, prompt.counted, CHECKED))


def _fitted(probe: _Probe) -> Measured:
    """Measure a model that attends by itself to all positions, from passes of three lengths."""
    short, middle, every = (probe.prefill(tokens, None)[0] for tokens in (PROBED, 2 * PROBED, 4 * PROBED))
    one, _ = probe.prefill(4 * PROBED, 1)
    first, second = middle.products - short.products, every.products - middle.products
    # The counter sees the whole square: cost = token * n + pair * n ** 2.
    pair = Fraction(second - 2 * first, 6 * PROBED**2)
    head = Fraction(every.products - one.products, 4 * PROBED - 1)
    token = Fraction(short.products, PROBED) - pair * PROBED - head
    each = _whole("pair", pair / len(probe.layers))
    layers = tuple(AttentionLayer(each, layer=index) for index in range(len(probe.layers)))
    profile = ComputeProfile(_whole("token", token), _whole("head", head), 0, layers)
    _check(profile, *_check_passes(probe), square=True)
    square = [each * (4 * PROBED) ** 2] * len(probe.layers) + [0]
    linear = [all_ - attention for all_, attention in zip(every.counted, square, strict=True)]
    return Measured(profile, (), frozenset(every.mixers), *_foreign(every, linear, 4 * PROBED))


def _described(probe: _Probe, counts: _Pass, late: Sequence[bool]) -> tuple[AttentionCall, ...]:
    positions = int(getattr(probe.model.config.get_text_config(), "max_position_embeddings", None) or 1)
    patterns = {id(mask): mask.pattern(positions) for mask in counts.masks}
    return tuple(
        AttentionCall(
            layer=call.layer,
            layer_idx=getattr(call.module, "layer_idx", None),
            heads=call.heads,
            kv_heads=call.kv_heads,
            key_width=call.key_width,
            value_width=call.value_width,
            pattern=Pattern() if call.mask is None else patterns[id(call.mask)],
            late=is_late,
            sliding_window=call.keywords.get("sliding_window"),
            keywords=frozenset(name for name, value in call.keywords.items() if value is not None),
        )
        for call, is_late in zip(counts.calls, late, strict=True)
    )


def _check_passes(probe: _Probe) -> tuple[_Pass, _Pass]:
    """Return the passes that a profile is held against: a prompt, and a token after it."""
    prompt, cache = probe.prefill(CHECKED, KEPT)
    return prompt, probe.step(cache)


def _check(profile: ComputeProfile, prompt: _Pass, step: _Pass, square: bool = False) -> None:
    """Hold a profile against the passes of `_check_passes`.

    Args:
        profile: The profile.
        prompt: Counts of the prompt's pass.
        step: Counts of the next token's pass.
        square: Whether the counter saw attention, and saw it without its mask.
    """
    attended = profile.attended(0, CHECKED, prompt.kept)
    if square:
        attended = sum(layer.pair // profile.unit * CHECKED**2 for layer in profile.layers)
    for label, measured, predicted in (
        ("a prompt", prompt, profile.token * CHECKED + profile.head * prompt.kept + profile.unit * attended),
        ("a token after a prompt", step, profile.token + profile.head + profile.unit * profile.attended(CHECKED, 1)),
    ):
        if measured.flops != predicted:
            raise UsageError(
                f"{label} of {CHECKED} tokens costs {measured.flops:,} FLOPs, and its profile predicts {predicted:,}"
            )


def _foreign(counts: _Pass, counted: Sequence[int], tokens: int) -> tuple[tuple[int, ...], int]:
    """Return FLOPs per token that no torch.nn.Linear has: of each decoder layer, and outside them."""
    *inside, outside = (
        _whole("layer", Fraction(all_ - linear, tokens)) for all_, linear in zip(counted, counts.linear, strict=True)
    )
    return tuple(inside), outside


def _summary(layers: Sequence[AttentionLayer]) -> str:
    return ", ".join(f"{layer.layer}: {layer.pair} FLOPs, window {layer.window}" for layer in layers) or "none"


def _whole(name: str, cost: Fraction) -> int:
    if cost.denominator != 1 or cost < 0:
        raise UsageError(f"its {name} costs {float(cost):,.2f} FLOPs: an integer of at least 0 is needed")
    return int(cost)
