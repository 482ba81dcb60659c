"""Switch of a chat template between answers with thoughts and without: an argument that the template reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from bench.errors import UsageError
from bench.models.rendering import TemplateLimit
from bench.models.template import template_file
from tasks.interface import Message

Think = Literal["auto", "on", "off"]
"""Whether an answer begins with a thought; `auto`: as the chat template does without being told."""

SWITCHES: Mapping[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),  # Qwen, GLM, SmolLM, EXAONE, Hunyuan, ERNIE, Gemma and most others
    "thinking": (True, False),  # Granite, DeepSeek, Kimi
    "reasoning": (True, False),  # Command A
    "thinking_budget": (-1, 0),  # Seed-OSS
    "reasoning_effort": ("high", "none"),  # Mistral; templates with levels but without `none` always think
}
"""Arguments of chat templates, each with its values for answers with thoughts and without."""

_CONVERSATION: list[Message] = [{"role": "user", "content": "What is 17 + 25?"}]


def switch(folder: Path, tokenizer: PreTrainedTokenizerBase, think: Think) -> dict[str, Any]:
    """Return the argument that makes a folder's chat template ask for an answer with or without a thought.

    A template takes an argument if it names it, and its prompts for the two values differ.

    Returns:
        The argument with its value, such as `{"enable_thinking": False}`; empty for `auto`.

    Raises:
        UsageError: If the template takes no such argument, or exceeds a limit.
    """
    if think == "auto":
        return {}
    if not tokenizer.chat_template:
        raise UsageError(f"--think {think}: {folder} holds no chat template to tell it to; leave out the option")
    template = tokenizer.get_chat_template()
    for name, values in SWITCHES.items():
        if _names(template, name, values) and differ(folder, tokenizer, name, _CONVERSATION):
            return {name: values[0] if think == "on" else values[1]}
    raise UsageError(
        f"--think {think}: {template_file(folder)}: the chat template takes no argument that turns thoughts on and off "
        f"(known are {', '.join(SWITCHES)}); leave out the option"
    )


def differ(folder: Path, tokenizer: PreTrainedTokenizerBase, name: str, conversation: Sequence[Message]) -> bool | None:
    """Return whether a conversation has another prompt with a thought than without; None if the template fails.

    Templates may read the argument only in conversations without a system message, or let that message win.

    Args:
        folder: Checkpoint folder.
        tokenizer: Its tokenizer.
        name: Argument that turns thoughts on and off, of `SWITCHES`.
        conversation: The conversation.

    Raises:
        UsageError: If the template exceeds a limit.
    """
    one, two = (_prompt(folder, tokenizer, conversation, {name: value}) for value in SWITCHES[name])
    return None if one is None or two is None else one != two


def fix(template: str, arguments: Mapping[str, Any]) -> str:
    """Return a chat template in which these arguments are set, for callers that pass none."""
    # Without `+`, Jinja would drop a line break at the beginning of the template.
    return "".join(f"{{% set {name} = {json.dumps(value)} +%}}" for name, value in arguments.items()) + template


def _names(template: str, name: str, values: tuple[Any, Any]) -> bool:
    """Return whether a template names an argument, and those of its values that are texts."""
    texts = (re.escape(value) for value in values if isinstance(value, str))
    return bool(re.search(rf"\b{name}\b", template)) and all(
        re.search(rf"""["']{text}["']""", template) for text in texts
    )


def _prompt(
    folder: Path, tokenizer: PreTrainedTokenizerBase, conversation: Sequence[Message], arguments: Mapping[str, Any]
) -> str | None:
    """Return the prompt that a template makes of a conversation under an argument; None if it fails."""
    try:
        text: str = tokenizer.apply_chat_template(
            list(conversation), tokenize=False, add_generation_prompt=True, **arguments
        )
    except TemplateLimit as error:
        raise UsageError(f"{template_file(folder)}: the chat template fails ({error}); correct it") from error
    except Exception:  # a template is a program and may raise anything
        return None
    return text
