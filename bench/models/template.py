"""Chat templates of a checkpoint folder: what they may call, and the date that they see.

A prompt must be the same on every day, because runs with one id must not differ. A template that reads the clock
therefore gets a fixed date, which is part of the run's id. A template that draws random numbers is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Self

import jinja2

from bench.errors import UsageError

DATE = datetime(2024, 7, 26)
"""What a template's clock shows: the date that the template of Llama 3.2 falls back to where there is no clock."""
CLOCK = "strftime_now"
RANDOM_FUNCTION, RANDOM_FILTER = "lipsum", "random"
LARGEST = 1_000_000
"""Limit of a template in characters. Templates in use have at most 30,000."""
PLACES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json", "processor_config.json")
PROCESSORS = ("chat_template.json", "processor_config.json")
"""Files of a multimodal model's processor, which its tokenizer does not read."""
AS_PARTS = (
    "{%- set turns = namespace(all=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set part = {'type': 'text', 'text': message['content']} -%}"
    "{%- set turns.all = turns.all + [dict(message, content=[part])] -%}"
    "{%- else -%}{%- set turns.all = turns.all + [message] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = turns.all %}"
)
"""Beginning of a template that turns each text into a list of one part, for a rest that reads lists only."""
PROBE = "What is 17 + 25?"


def use_fixed_date() -> None:
    """Let every template that transformers renders in this process see `DATE`. See `bench.models.rendering`."""
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = FixedDate


class FixedDate(datetime):
    """Replacement for `datetime` with a clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Return `DATE`."""
        return cls(DATE.year, DATE.month, DATE.day, tzinfo=tz)


def clock_date(folder: Path) -> str | None:
    """Return the date that a folder's templates see if they read the clock, such as `2024-07-26`; else None."""
    reads = any(CLOCK in _calls(template) for _, template in _templates(folder))
    return DATE.date().isoformat() if reads else None


def check_not_random(folder: Path) -> None:
    """Check that no template of a folder draws random numbers.

    Raises:
        UsageError: If one does.
    """
    for file, template in _templates(folder):
        if found := _calls(template) & {RANDOM_FUNCTION, f"|{RANDOM_FILTER}"}:
            raise UsageError(
                f"{file}: the chat template calls {min(found)}, so its prompts change at random, and runs with one id "
                "would differ; copy the checkpoint, put a fixed value in place of the call, and give --model the copy"
            )


def processor_template(folder: Path) -> str | None:
    """Return the chat template of a folder's processor; None if it has none."""
    return next((template for file, template in _templates(folder) if file.name in PROCESSORS), None)


def has_template_of_processor(folder: Path) -> bool:
    """Return whether a folder's only chat templates are those of its processor."""
    files = {file.name for file, _ in _templates(folder)}
    return bool(files) and files <= set(PROCESSORS)


def accept_text(tokenizer: Any) -> None:
    """Let a tokenizer's chat template take messages whose content is a text.

    A multimodal model's template may read lists of parts only, such as `[{"type": "text", "text": "..."}]`. It leaves
    out a text, or fails on it. `AS_PARTS` is put before such a template, if that helps.
    """
    template = tokenizer.chat_template
    # A template that reads parts compares their type.
    if not isinstance(template, str) or "type" not in template or _shows_text(tokenizer):
        return
    tokenizer.chat_template = AS_PARTS + template
    if not _shows_text(tokenizer):
        tokenizer.chat_template = template


def _shows_text(tokenizer: Any) -> bool:
    conversation = [{"role": "user", "content": PROBE}]
    try:
        return PROBE in tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    except Exception:  # a template is a program and may raise anything; where it is needed, the error is reported
        return False


def template_file(folder: Path) -> Path:
    """Return the file that holds the chat template: the first of `PLACES` with one."""
    return next((file for file, _ in _templates(folder)), folder / PLACES[0])


def _templates(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the templates of a folder, each with its file.

    Raises:
        UsageError: If one is too long.
    """
    for file, template in _stored(folder):
        if len(template) > LARGEST:
            raise UsageError(
                f"{file}: the chat template has {len(template)} characters, and at most {LARGEST} are read"
            )
        yield file, template


def _stored(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the templates of a folder. A field can hold one template or a list of named ones."""
    for file in sorted({*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja")}):
        yield file, file.read_text(encoding="utf-8", errors="replace")
    for file in (folder / name for name in PLACES if name.endswith(".json")):
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # the tokenizer's loader names a file that cannot be read
        found = settings.get("chat_template") if isinstance(settings, dict) else None
        for entry in found if isinstance(found, list) else [found]:
            template = entry.get("template") if isinstance(entry, dict) else entry
            if isinstance(template, str):
                yield file, template


def _calls(template: str) -> set[str]:
    """Return the names that a template reads, and its filters as `|name`."""
    # Words, not syntax: transformers adds tags of its own that Jinja cannot parse.
    try:
        words = [(kind, word) for _, kind, word in jinja2.Environment().lex(template) if kind != "whitespace"]
    except jinja2.TemplateSyntaxError:
        return set()  # opening the folder reports it
    found = set()
    for (_, before), (kind, word) in zip([("", ""), *words], words, strict=False):
        if kind == "name" and before != ".":
            found.add(f"|{word}" if before == "|" else word)
    return found
