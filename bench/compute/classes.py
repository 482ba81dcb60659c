"""Classes of transformers for a configuration: which one loads a checkpoint's weights, and which one reads text."""

from __future__ import annotations

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)


def is_multimodal(config: PreTrainedConfig) -> bool:
    """Return whether a configuration is that of a text model and something else, rather than of a text model alone."""
    return isinstance(getattr(config, "text_config", None), PreTrainedConfig)


def loaded_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that loads a checkpoint's weights; None if transformers has none that continues a text."""
    mappings = [MODEL_FOR_MULTIMODAL_LM_MAPPING] if is_multimodal(config) else []
    for mapping in (*mappings, MODEL_FOR_CAUSAL_LM_MAPPING):
        if type(config) in mapping:
            found: type[PreTrainedModel] = mapping[type(config)]
            return found
    return None


def text_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Return the causal class of a multimodal configuration's text part; None if transformers has none."""
    text = type(config.text_config)
    if text in MODEL_FOR_CAUSAL_LM_MAPPING:
        found: type[PreTrainedModel] = MODEL_FOR_CAUSAL_LM_MAPPING[text]
        return found
    own = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return own if own is not None and own.config_class is text else None


def reading_text(config: PreTrainedConfig) -> tuple[type[PreTrainedModel] | None, PreTrainedConfig]:
    """Return the class that reads text with a model, and the configuration that it takes.

    This is the class of the text part, or that of the whole model if no class runs the text part alone. It is None if
    transformers has none that continues a text.
    """
    if is_multimodal(config) and (text := text_class(config)) is not None:
        return text, config.text_config
    return loaded_class(config), config
