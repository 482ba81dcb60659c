"""Text models of multimodal checkpoints: they answer with their text model, and their other towers are left out.

Such a configuration has a `text_config`. The weights are loaded by the class of the whole model, which knows their
names (see `loader` for the exception). What is kept of it follows from the classes:

1. If transformers has a causal class for the text configuration, and the whole model contains that class or its base
   model, the text model is an instance of that class with the same modules. Saved, it is a checkpoint of text alone.
2. Otherwise it is the whole model without everything outside its decoder and head. Saved, it is a checkpoint of the
   whole model, with the other weights as they are in its folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from bench.errors import UsageError
from bench.plain import sentence

PROBE = 8
"""Number of tokens of the text on which a text model is held against the whole model."""


def is_multimodal(config: PreTrainedConfig) -> bool:
    """Return whether a configuration is that of a text model and something else, rather than of a text model alone."""
    return isinstance(getattr(config, "text_config", None), PreTrainedConfig)


def what_is_left_out(config: PreTrainedConfig) -> str | None:
    """Return a sentence for a multimodal model, which answers with its text model alone; None for any other model."""
    if not is_multimodal(config):
        return None
    parts = [name.removesuffix("_config") for name, value in vars(config).items() if _is_tower(name, value)]
    without = f", without {' and '.join(parts)}" if parts else ""
    return f"{config.model_type} is a multimodal model: its text model answers{without}"


def _is_tower(name: str, value: object) -> bool:
    return name != "text_config" and isinstance(value, PreTrainedConfig)


def loaded_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that loads a checkpoint's weights; None if transformers has none that continues a text."""
    mappings = [MODEL_FOR_MULTIMODAL_LM_MAPPING] if is_multimodal(config) else []
    for mapping in (*mappings, MODEL_FOR_CAUSAL_LM_MAPPING):
        if type(config) in mapping:
            found: type[PreTrainedModel] = mapping[type(config)]
            return found
    return None


def loader(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """Return the class that loads a checkpoint's weights here, and the configuration that it takes.

    If a tower of a multimodal model needs a library that is not installed, as that of Gemma 3n needs timm, the class of
    the text part loads its own weights.

    Raises:
        UsageError: If transformers has no causal language model for the configuration.
    """
    found = loaded_class(config)
    if found is None:
        raise UsageError(f"model type {config.model_type}: not a causal language model; use one that continues a text")
    if is_multimodal(config) and (text := text_class(config)) is not None:
        try:
            with torch.device("meta"):
                found._from_config(config)
        except ImportError:
            return text, config.text_config
    return found, config


def text_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Return the causal class of a multimodal configuration's text part; None if transformers has none."""
    text = type(config.text_config)
    if text in MODEL_FOR_CAUSAL_LM_MAPPING:
        found: type[PreTrainedModel] = MODEL_FOR_CAUSAL_LM_MAPPING[text]
        return found
    own = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return own if own is not None and own.config_class is text else None


def text_model(whole: PreTrainedModel) -> tuple[PreTrainedModel, set[str]]:
    """Return the text model of a loaded model, and the names of the weights of the whole model that it leaves out.

    A model of text alone is returned as it is. A multimodal one cannot be used afterwards.

    Args:
        whole: Model of `loaded_class`, also on the meta device.

    Raises:
        UsageError: If the model has no decoder or no head of its own, or has towers and no `text_config`.
    """
    if not is_multimodal(whole.config):
        _refuse_towers(whole)
        return whole, set()
    before = whole.state_dict(keep_vars=True)
    model = _part(whole)
    kept = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    return model, {name for name, tensor in before.items() if id(tensor) not in kept}


def _refuse_towers(model: PreTrainedModel) -> None:
    """Refuse a model with a part that reads no text. Without a `text_config` it is not known what a text needs."""
    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel) and "text" not in getattr(module, "input_modalities", "text"):
            raise UsageError(
                f"{type(model).__name__}: has {name}, which reads no text, and its configuration has no text_config "
                "that tells the text model from it; use another model"
            )


def of_towers(text: PreTrainedModel, unexpected: Iterable[str]) -> set[str]:
    """Return the weights of a whole model's base that are outside its text model, of those that the latter has not.

    Args:
        text: Text model that was loaded from the files of the whole model.
        unexpected: Names of the weights in these files that it has not, as it would name them.
    """
    prefix, own = text.base_model_prefix, {name for name, _ in text.base_model.named_children()}
    parts = {name: name.split(".", 2) for name in unexpected}
    return {name for name, (first, *rest) in parts.items() if first == prefix and rest and rest[0] not in own}


def meta_model(config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
    """Return the model that opens for a configuration, on the meta device: names, shapes and classes without values.

    Args:
        config: Configuration, as `bench.models.opening.open_config` returns it.
        options: Further options of transformers' `from_config`, such as `attn_implementation`.

    Raises:
        UsageError: If transformers has no causal language model for it.
    """
    model_class, own_config = loader(config)
    with torch.device("meta"):
        return text_model(model_class._from_config(own_config, **options))[0]


def keeps_whole(model: PreTrainedModel) -> bool:
    """Return whether a text model is a multimodal model without its other towers (case 2 above)."""
    return is_multimodal(model.config)


def first_logits(model: PreTrainedModel) -> torch.Tensor:
    """Return a model's logits for a short text [tokens, vocabulary].

    Raises:
        UsageError: If the model does not run on text alone.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(3, 3 + PROBE, device=model.device)[None] % rows
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0]
    except Exception as error:
        reason = sentence(str(error)) or type(error).__name__
        raise UsageError(f"{type(model).__name__}: does not run on text alone ({reason})") from error
    return logits


def check_same_text(model: PreTrainedModel, expected: torch.Tensor) -> None:
    """Check that a text model reads text as the whole model does.

    Args:
        model: The text model.
        expected: `first_logits` of the whole model.

    Raises:
        UsageError: If it does not, as where the whole model attends to a prompt in both directions.
    """
    off = (first_logits(model) - expected).abs().max() / expected.abs().max()
    if not off <= torch.finfo(expected.dtype).eps ** 0.5:
        raise UsageError(
            f"{type(model).__name__}: reads a text otherwise than the multimodal model that it is taken from (logits "
            f"are off by {off:.1%}); use another model"
        )


def _part(whole: PreTrainedModel) -> PreTrainedModel:
    text = type(whole.config.text_config)
    decoders = (m for m in whole.modules() if isinstance(m, PreTrainedModel) and type(m.config) is text)
    decoder, head = next(decoders, None), whole.get_output_embeddings()
    if decoder is None or head is None:
        raise UsageError(f"{type(whole).__name__}: has no text model with a head of its own; use another model")
    causal = text_class(whole.config)
    if causal is None:
        return _without_towers(whole, decoder, head)
    if type(decoder) is causal:
        model = decoder
    else:
        # As the weights are, and not as the text part's configuration says, which the whole model does not read.
        decoder.config.tie_word_embeddings = head.weight is whole.get_input_embeddings().weight
        with torch.device("meta"):
            model = causal._from_config(decoder.config)
        if type(model.base_model) is not type(decoder):
            return _without_towers(whole, decoder, head)
        setattr(model, model.base_model_prefix, decoder)
        model.set_output_embeddings(head)
        model.config = decoder.config
    model.config._name_or_path = whole.config._name_or_path
    model.generation_config = whole.generation_config
    return model


def _without_towers(whole: PreTrainedModel, *kept: nn.Module) -> PreTrainedModel:
    _prune(whole, kept)
    return whole


def _prune(module: nn.Module, kept: Collection[nn.Module]) -> None:
    """Remove all modules and parameters that are not in one of the modules `kept`."""
    for name, _ in [*module.named_parameters(recurse=False)]:
        setattr(module, name, None)
    for name, child in [*module.named_children()]:
        if child in kept:
            continue
        if any(each in kept for each in child.modules()):
            _prune(child, kept)
        else:
            setattr(module, name, None)
