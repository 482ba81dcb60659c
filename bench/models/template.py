"""Check of chat templates. One whose prompts change with time is refused, because runs with one id would differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jinja2

CHANGING = {"strftime_now": "the date", "lipsum": "random text"}
"""Functions that transformers and Jinja offer to a template, and what they return."""
RANDOM_FILTER = "random"


def changing_template(folder: Path) -> str | None:
    """Return the reason to refuse a checkpoint whose chat template calls a clock or draws random numbers, or None.

    Args:
        folder: Checkpoint folder.
    """
    for file, template in _templates(folder):
        if (function := _changing(template)) is not None:
            return (
                f"{file}: the chat template calls {function}, so its prompts change with time, and runs with one id "
                "would differ. Copy the checkpoint, put a fixed value in place of the call, and give --model the copy"
            )
    return None


def _templates(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the templates of a folder, each with its file. A field can hold one template or a list of named ones."""
    for file in sorted({*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja")}):
        yield file, file.read_text(encoding="utf-8")
    for file in (folder / "tokenizer_config.json", folder / "chat_template.json", folder / "processor_config.json"):
        try:
            found = json.loads(file.read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError):
            continue  # the tokenizer's loader names a file that cannot be read
        for entry in found if isinstance(found, list) else [found]:
            template = entry.get("template") if isinstance(entry, dict) else entry
            if isinstance(template, str):
                yield file, template


def _changing(template: str) -> str | None:
    """Return the first call of a clock or a random function: `strftime_now (the date)`; None if there is none."""
    # Words, not syntax: transformers adds tags of its own that Jinja cannot parse.
    try:
        words = [(kind, word) for _, kind, word in jinja2.Environment().lex(template) if kind != "whitespace"]
    except jinja2.TemplateSyntaxError:
        return None  # the tokenizer reports it
    for (_, before), (kind, word) in zip([("", ""), *words], words, strict=False):
        if kind != "name" or before == ".":
            continue
        if before == "|" and word == RANDOM_FILTER:
            return f"the filter {word}"
        if word in CHANGING:
            return f"{word} ({CHANGING[word]})"
    return None
