"""FLOPs of causal language models, as exact integers from their compute profile and token counts.

One multiply-add is two FLOPs. Matrix products are counted: linear layers, experts, the output head, attention's two
products, recurrences and convolutions. The embedding look-up, biases, norms, activations, rotary embeddings and the
softmax are not. See `bench.compute.profile` for the costs, and `bench.compute.measured` for how they are measured.

Dense decoders with gated MLPs have a closed form. For one token at context c, which includes the token itself:

    layers(c) = 2 * matmul parameters of all layers + 4 * layers * heads * head_dim * c
    head      = 2 * vocab_size * hidden_size

This follows Kaplan et al. 2020 (arXiv 2001.08361, table 1), Hoffmann et al. 2022 (arXiv 2203.15556, appendix F) and
Chowdhery et al. 2022 (arXiv 2204.02311, appendix B). The causal average over a sequence of L tokens is c = (L + 1) / 2.
The head counts wherever it runs: at every token in training, and once per token of the answer in generation, because
only the last position of a prompt predicts a new token.

Model FLOPs and hardware FLOPs are the same functions, applied to counts without and with padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bench.compute.profile import AttentionLayer, ComputeProfile, check_counts, check_size
from bench.errors import UsageError

FLOPS_VERSION = 3
"""Version of the formula, stored in records. Increment it with any change of a returned number, or of the models that
have one."""
MEASURED = 3
"""First version under which records hold the compute profile."""
_SAME_NUMBERS = {MEASURED: 2}
"""Earlier version that gives the same numbers for every model it knows: version 3 measures those that 2 refused."""


def flops_rule(version: int) -> int:
    """Return the earliest version of the formula that gives the same numbers as this one wherever it has any.

    Records of both versions can be compared, and have the same ids.
    """
    return _SAME_NUMBERS.get(version, version)


def is_present_rule(version: int) -> bool:
    """Return whether records of a version of the formula have the numbers that the present one gives."""
    return flops_rule(version) == flops_rule(FLOPS_VERSION)


class NoClosedForm(UsageError):
    """The FLOPs of a model do not follow from its dimensions alone."""


class _HasToDict(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


Config = Mapping[str, Any] | _HasToDict
"""A `transformers` configuration, or the content of its config.json."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a dense decoder with gated MLPs that determine its FLOPs.

    Attributes:
        layers: Number of decoder layers.
        hidden_size: Width of the residual stream.
        heads: Number of query heads.
        kv_heads: Number of key and value heads; fewer than `heads` in grouped-query attention. It changes the
            parameters, but not the attention products.
        head_dim: Width of one head; `heads * head_dim` may differ from `hidden_size`.
        intermediate_size: Width of the MLP, which has gate, up and down projections.
        vocab_size: Number of rows of the embedding and of the output head.
        tied: Whether the head shares the embedding's weights. FLOPs do not depend on it.
        windows: Maximum number of positions that each layer attends to, including the current one; None for a layer
            that attends to all. Empty if no layer has a window.

    Raises:
        UsageError: If a size is not a positive integer, `kv_heads` does not divide `heads`, or the length of `windows`
            is neither 0 nor `layers`.
    """

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tied: bool
    windows: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("layers", "hidden_size", "heads", "kv_heads", "head_dim", "intermediate_size", "vocab_size")
        for name in sizes:
            check_size(name, getattr(self, name))
        for window in self.windows:
            if window is not None:
                check_size("windows", window)
        if self.heads % self.kv_heads:
            raise UsageError(f"kv_heads is {self.kv_heads}: a divisor of heads, {self.heads}, is needed")
        if len(self.windows) not in (0, self.layers):
            raise UsageError(f"windows has {len(self.windows)} entries: none or {self.layers} are needed")

    def profile(self) -> ComputeProfile:
        """Return the compute profile that these dimensions give."""
        windows = self.windows or (None,) * self.layers
        pair = 4 * self.heads * self.head_dim
        return ComputeProfile(
            token=2 * self.layers * self.layer_matmul_parameters,
            head=2 * self.head_matmul_parameters,
            layers=tuple(AttentionLayer(pair, window, layer=index) for index, window in enumerate(windows)),
        )

    @property
    def layer_matmul_parameters(self) -> int:
        """Weights of one decoder layer's linear layers: four of attention and three of the MLP, without biases."""
        attention = 2 * self.hidden_size * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def head_matmul_parameters(self) -> int:
        """Weights of the output head, whether or not they are tied to the embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def matmul_parameters(self) -> int:
        """Weights that multiply every token: all linear layers and the head, but not the embedding."""
        return self.layers * self.layer_matmul_parameters + self.head_matmul_parameters

    @property
    def matrix_parameters(self) -> int:
        """Weights of all stored matrices, with a tied embedding and head counted once, without norms and biases."""
        return self.matmul_parameters + (0 if self.tied else self.head_matmul_parameters)

    @classmethod
    def from_config(cls, config: Config) -> ModelShape:
        """Return the shape of a model from its configuration; for a multimodal model, the shape of its text model.

        An unknown family is refused, because sizes alone do not say whether an MLP has a gate or how often a layer
        runs. Missing fields take the family's defaults in `transformers`.

        Raises:
            NoClosedForm: If the family is unknown, or the formula does not cover the configuration: experts, layers
                other than full or sliding-window attention, non-causal attention.
            UsageError: If a size is not a positive integer.
        """
        given = config if isinstance(config, Mapping) else config.to_dict()
        if isinstance(text := given.get("text_config"), Mapping):
            tie = "tie_word_embeddings"
            return cls.from_config({**text, **({tie: given[tie]} if tie in given else {})})
        model_type = given.get("model_type")
        family = _FAMILIES.get(str(model_type))
        if family is None:
            raise NoClosedForm(
                f"model_type is {model_type!r}: its FLOPs have no closed form, as those of dense causal decoders with "
                f"gated MLPs of the families {', '.join(sorted(_FAMILIES))} have"
            )
        values = {**family.defaults, **given}
        layers = check_size("num_hidden_layers", values["num_hidden_layers"])
        heads = check_size("num_attention_heads", values["num_attention_heads"])
        hidden_size = check_size("hidden_size", values["hidden_size"])
        _refuse_variants(values)
        kv_heads, head_dim, window = (values[name] for name in ("num_key_value_heads", "head_dim", "sliding_window"))
        windows = tuple(window if family.slides(values, layer) else None for layer in range(layers))
        return cls(
            layers=layers,
            hidden_size=hidden_size,
            heads=heads,
            kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=hidden_size // heads if head_dim is None else head_dim,
            intermediate_size=values["intermediate_size"],
            vocab_size=values["vocab_size"],
            tied=bool(values["tie_word_embeddings"]),
            windows=() if set(windows) == {None} else windows,
        )


def closed_form(config: Config) -> ModelShape | None:
    """Return the shape of a model of a family whose FLOPs have a closed form; None for every other model."""
    try:
        return ModelShape.from_config(config)
    except NoClosedForm:
        return None


def _measured_profile(config: Config) -> ComputeProfile:
    given = config if isinstance(config, Mapping) else config.to_dict()
    kind = given.get("model_type")
    try:
        from transformers import CONFIG_MAPPING

        from bench.compute.classes import reading_text
        from bench.compute.measured import measure
    except ImportError as error:
        raise UsageError(
            f"model_type is {kind!r}: its FLOPs are measured with torch and transformers: "
            "pip install 'bench-post-training[local]'"
        ) from error
    if kind not in CONFIG_MAPPING:
        raise UsageError(f"model_type is {kind!r}: not one of the installed version of transformers")
    model_class, own_config = reading_text(CONFIG_MAPPING[kind].from_dict(dict(given)))
    return measure(own_config, model_class).profile


def compute_profile(config: Config) -> ComputeProfile:
    """Return the compute profile of a model from its configuration alone.

    Families with a closed form need no torch. Every other model is measured, once per process, which takes seconds: see
    `bench.compute.measured`.

    Raises:
        UsageError: If the model's FLOPs can be neither computed nor measured, with the reason.
    """
    if shape := closed_form(config):
        return shape.profile()
    return _measured_profile(config)


def forward_flops(profile: ComputeProfile, *, tokens: int, head_tokens: int, attended: int) -> int:
    """Return the FLOPs of a forward pass of tokens through the layers, and of some of them through the output head.

    The function is linear in all counts, so it can be applied to the sums in a ledger.

    Args:
        profile: Compute profile of the model.
        tokens: Number of tokens passed through the layers.
        head_tokens: Number of tokens whose logits are computed.
        attended: Positions attended to, summed over tokens and layers, from `ComputeProfile.attended`.

    Raises:
        ValueError: If a count is negative.
    """
    check_counts(tokens=tokens, head_tokens=head_tokens, attended=attended)
    return profile.token * tokens + profile.head * head_tokens + profile.unit * attended


def generation_flops(profile: ComputeProfile, prompt: int, new_tokens: int) -> int:
    """Return the FLOPs of generating `new_tokens` tokens (at least one) after a prompt of `prompt` tokens.

    The prompt's pass gives the first token, each further token has a pass of its own, and the last token is not fed
    back.
    """
    decoded = new_tokens - 1
    attended = profile.attended(0, prompt, kept=min(prompt, 1)) + profile.attended_singly(prompt, decoded)
    return forward_flops(profile, tokens=prompt + decoded, head_tokens=new_tokens, attended=attended)


def decode_flops(profile: ComputeProfile, context: int, new_tokens: int) -> int:
    """Return the FLOPs of one forward pass of `new_tokens` tokens through layers and head, with `context` cached."""
    attended = profile.attended(context, new_tokens)
    return forward_flops(profile, tokens=new_tokens, head_tokens=new_tokens, attended=attended)


def prefill_flops(profile: ComputeProfile, tokens: int) -> int:
    """Return the FLOPs of a forward pass of one sequence through layers and head, without a cache."""
    return decode_flops(profile, 0, tokens)


def training_flops(profile: ComputeProfile, tokens: int, recompute: bool = False) -> int:
    """Return the FLOPs of one forward and backward pass over one sequence, without the optimiser's step.

    The backward pass costs twice the forward pass: one product for the gradient of the inputs, and one for the gradient
    of the weights.

    Args:
        profile: Compute profile of the model.
        tokens: Length of the sequence.
        recompute: Whether the backward pass recomputes activations, which adds one forward pass (Chowdhery et al. 2022,
            appendix B). Checkpointing of decoder layers recomputes less: it skips the head's product, and with early
            stopping also each layer's last product.
    """
    return (4 if recompute else 3) * prefill_flops(profile, tokens)


def _refuse_variants(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if "expert" in name and value:
            raise NoClosedForm(f"{name} is {value!r}: mixtures of experts are not supported, dense models are")
    if values.get("use_bidirectional_attention"):
        raise NoClosedForm("use_bidirectional_attention is true: only causal attention is supported")
    types = values.get("layer_types") or []
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise NoClosedForm(f"layer_types has {kind!r}: full_attention or sliding_attention is supported")
    if types and len(types) != (layers := values["num_hidden_layers"]):
        raise UsageError(f"layer_types has {len(types)} entries: num_hidden_layers, {layers}, are needed")


@dataclass(frozen=True, slots=True)
class _Family:
    """Family of models in `transformers`.

    Attributes:
        defaults: Values of missing configuration fields.
        slides: Function of the configuration and a layer's index that returns whether the layer has a window.
    """

    defaults: Mapping[str, Any]
    slides: Callable[[Mapping[str, Any], int], bool]


def _qwen_slides(values: Mapping[str, Any], layer: int) -> bool:
    if not values["use_sliding_window"]:
        return False
    if types := values.get("layer_types"):
        return bool(types[layer] == "sliding_attention")
    return bool(layer >= values["max_window_layers"])


def _gemma_slides(values: Mapping[str, Any], layer: int) -> bool:
    if types := values.get("layer_types"):
        return bool(types[layer] == "sliding_attention")
    return (layer + 1) % int(values["sliding_window_pattern"]) != 0


_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "tie_word_embeddings": False,
    "sliding_window": None,
}
_MISTRAL = {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8, "sliding_window": 4096}
_QWEN2 = {
    **_LLAMA,
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
_QWEN3 = {**_QWEN2, "head_dim": 128}
_GEMMA3 = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}

_FAMILIES = {
    "llama": _Family(_LLAMA, lambda values, layer: False),
    "mistral": _Family(_MISTRAL, lambda values, layer: True),
    "qwen2": _Family(_QWEN2, _qwen_slides),
    "qwen3": _Family(_QWEN3, _qwen_slides),
    "gemma3_text": _Family(_GEMMA3, _gemma_slides),
}
