"""Compute profile of any causal language model of transformers, measured from the model itself.

The model is built on the meta device, which has shapes and no values, so neither weights nor memory are needed. It runs
a few short passes under torch's FLOP counter with an attention function of our own, which notes the widths of each call
and computes nothing. Recurrences count by their definition, see `bench.compute.scans`. The costs of the profile follow
from three passes, or from the closed form of the family where there is one. Two more passes at another length must cost
exactly what the profile says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedConfig, PreTrainedModel

from bench.compute.flops import closed_form
from bench.compute.patterns import Pattern
from bench.compute.probe import ATTENTION, Pass, Probe, build
from bench.compute.profile import AttentionLayer, ComputeProfile
from bench.compute.scans import Foreign
from bench.errors import UsageError

PROBED, CHECKED, KEPT = 24, 41, 3
"""Tokens of the passes that give the profile and of those that check it, and positions kept in the latter."""
LONG = 2049
"""Tokens of the checking passes of models without recurrences, which may step through a prompt token by token. A long
prompt shows what a short one hides: a compressed cache, or attention to the best of many positions."""
ATTENDS_TO_ALL = ("bloom", "falcon", "gptj")
"""Model types whose attention is not transformers' interface, and attends to all earlier positions in every layer.

Their modeling files say so. A count cannot: eager attention with a window computes the full square too.
"""

NEEDS_VALUES = ("item() cannot be called on meta", "out of meta tensor", "with Meta tensors")
"""Parts of the messages of torch that say that code reads values where there are only shapes."""


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
        layers: Number of decoder layers.
        profile: Compute profile.
        calls: Calls of attention through transformers' interface, in order. Empty if the model attends by itself, when
            only `profile.layers` is known, or has no attention.
        mixers: Names of recurrences and convolutions that carry states from token to token.
        foreign: Costs of the decoder's modules that are no torch.nn.Linear and compute products outside attention, by
            their names in the decoder, such as "layers.0.mlp.experts".
    """

    layers: int
    profile: ComputeProfile
    calls: tuple[AttentionCall, ...]
    mixers: frozenset[str]
    foreign: Mapping[str, Foreign]

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
    """Measure a model's costs from its configuration, once per process.

    Args:
        config: Configuration of a causal language model.
        model_class: Class of the model; None for the one that transformers chooses.

    Raises:
        UsageError: If the model cannot be built, its cost depends on the tokens' values (sparse masks, routing by
            data), it mixes tokens in a way that is not known, or its passes do not cost what the profile says.
    """
    key = config.to_json_string(use_diff=False), model_class
    if key not in _MEASURED:
        _MEASURED[key] = _measure(config, model_class)
    return _MEASURED[key]


_MEASURED: dict[tuple[str, type[PreTrainedModel] | None], Measured] = {}
"""Results of `measure` in this process, by configuration and class."""


def _measure(config: PreTrainedConfig, model_class: type[PreTrainedModel] | None) -> Measured:
    kind, shape = str(config.model_type), closed_form(config)
    try:
        if kind in ATTENDS_TO_ALL:
            return _fitted(Probe(build(config, model_class, "eager")))
        probe = Probe(build(config, model_class, ATTENTION))
        return _probed(probe) if shape is None else _verified(probe, shape.profile())
    except UsageError as error:
        raise UsageError(f"model_type is {kind!r}: its FLOPs cannot be measured: {error}") from None
    except Exception as error:  # of the model's own code, which may need values where there are only shapes
        if isinstance(error, KeyError) and error.args == (ATTENTION,):
            raise UsageError(
                f"model_type is {kind!r}: its FLOPs cannot be measured: it does not attend through transformers' "
                "attention interface"
            ) from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        if any(part in str(error) for part in NEEDS_VALUES):
            reason = (
                f"its code does not run without values ({reason}): what it computes may depend on them, as in sparse "
                "attention and routing by data"
            )
        else:
            reason = f"its code does not run on torch's meta device ({reason})"
        raise UsageError(f"model_type is {kind!r}: its FLOPs cannot be measured, because {reason}") from error


def _probed(probe: Probe) -> Measured:
    """Measure a model that attends through transformers' interface, or not at all."""
    every, _ = probe.prefill(PROBED, None)
    one, cache = probe.prefill(PROBED, 1)
    step = probe.step(cache)
    if not every.calls and not every.mixers:
        raise UsageError(
            "it neither attends through transformers' attention interface nor has a recurrence whose definition is "
            "known"
        )
    head = Fraction(every.products - one.products, PROBED - 1) if probe.keeps else Fraction(every.head, PROBED)
    context = (step.products - Fraction(every.products, PROBED)) / PROBED
    token = Fraction(every.products, PROBED) - head - context
    calls = _described(probe, every, [later.queries == 1 for later in one.calls])
    layers = tuple(call.as_layer() for call in calls)
    profile = ComputeProfile(_whole("token", token), _whole("head", head), _whole("context", context), layers)
    _check(profile, *_check_passes(probe, CHECKED if every.mixers else min(LONG, probe.positions)))
    return Measured(len(probe.layers), profile, calls, frozenset(every.mixers | step.mixers), _foreign(every, PROBED))


def _verified(probe: Probe, profile: ComputeProfile) -> Measured:
    """Hold the closed form of a model against its passes."""
    prompt, step = _check_passes(probe, CHECKED)
    calls = _described(probe, prompt, [call.queries < CHECKED for call in prompt.calls])
    if (layers := tuple(call.as_layer() for call in calls)) != profile.layers:
        raise UsageError(
            f"its layers attend as {_summary(layers)}, and its closed form says {_summary(profile.layers)}"
        )
    _check(profile, prompt, step)
    return Measured(
        len(probe.layers), profile, calls, frozenset(prompt.mixers | step.mixers), _foreign(prompt, CHECKED)
    )


def _fitted(probe: Probe) -> Measured:
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
    _check(profile, *_check_passes(probe, min(LONG, probe.positions)), square=True)
    # The square is a product of attention's module here: 4 a n - 2 a n = 2 a n, and the squares cancel.
    for name, cost in middle.foreign.items():
        middle.foreign[name] = Foreign(4 * short.foreign[name].products - cost.products, cost.states)
    return Measured(len(probe.layers), profile, (), frozenset(every.mixers), _foreign(middle, 2 * PROBED))


def _described(probe: Probe, counts: Pass, late: Sequence[bool]) -> tuple[AttentionCall, ...]:
    patterns = {id(mask): mask.pattern(probe.positions) for mask in counts.masks}
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


def _check_passes(probe: Probe, tokens: int) -> tuple[Pass, Pass]:
    """Return the passes that a profile is held against: a prompt of this length, and a token after it."""
    prompt, cache = probe.prefill(tokens, KEPT)
    return prompt, probe.step(cache)


def _check(profile: ComputeProfile, prompt: Pass, step: Pass, square: bool = False) -> None:
    """Hold a profile against the passes of `_check_passes`.

    Args:
        profile: The profile.
        prompt: Counts of the prompt's pass.
        step: Counts of the next token's pass.
        square: Whether the counter saw attention, and saw it without its mask.
    """
    tokens = prompt.tokens
    attended = profile.attended(0, tokens, prompt.kept)
    if square:
        attended = sum(layer.pair // profile.unit * tokens**2 for layer in profile.layers)
    for label, measured, predicted in (
        ("a prompt", prompt, profile.token * tokens + profile.head * prompt.kept + profile.unit * attended),
        ("a token after a prompt", step, profile.token + profile.head + profile.unit * profile.attended(tokens, 1)),
    ):
        if measured.flops != predicted:
            raise UsageError(
                f"{label} of {tokens} tokens costs {measured.flops:,} FLOPs, and its profile predicts {predicted:,}"
            )


def _foreign(counts: Pass, tokens: int) -> dict[str, Foreign]:
    """Return the costs per token of modules that are no torch.nn.Linear."""
    each = {
        name: Foreign(_whole(name, Fraction(cost.products, tokens)), _whole(name, Fraction(cost.states, tokens)))
        for name, cost in counts.foreign.items()
    }
    return {name: cost for name, cost in each.items() if cost != Foreign()}


def _summary(layers: Sequence[AttentionLayer]) -> str:
    return ", ".join(f"{layer.layer}: {layer.pair} FLOPs, window {layer.window}" for layer in layers) or "none"


def _whole(name: str, cost: Fraction) -> int:
    if cost.denominator != 1 or cost < 0:
        raise UsageError(f"its {name} costs {float(cost):,.2f} FLOPs: an integer of at least 0 is needed")
    return int(cost)
