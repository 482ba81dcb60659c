"""Chat templates of a checkpoint folder: what they may call, and the date that they see.

A prompt must be the same on every day, because runs with one id must not differ. A template that reads the clock
therefore gets a fixed date, which is part of the run's id. A template that draws random numbers is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Self

import jinja2

from bench.errors import UsageError

DATE = datetime(2024, 7, 26)
"""What a template's clock shows: the date that the template of Llama 3.2 falls back to where there is no clock."""
CLOCK = "strftime_now"
RANDOM_FUNCTION, RANDOM_FILTER = "lipsum", "random"
LARGEST = 1_000_000
"""Limit of a template in characters. Templates in use have at most 30,000."""
PLACES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json", "processor_config.json")


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
