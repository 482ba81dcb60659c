"""How a run reads its model's folder: the fields of `Versions` that follow from the folder and from what is asked.

Each is None where its rule does not apply, so the ids of other runs do not depend on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.models.checkpoint import read_config
from bench.models.template import clock_date, has_template_of_processor
from bench.records.config import RunConfig
from bench.run.data import TaskData

VERSION = 1
"""Version of each of these rules."""


def reading_versions(config: RunConfig, data: TaskData, folder: Path) -> dict[str, Any]:
    """Return the fields of `Versions` for a model's folder.

    Args:
        config: Configuration of the run.
        data: Its data.
        folder: The model's checkpoint folder.

    Raises:
        UsageError: If the folder's tokenizer cannot be opened.
    """
    chat = config.prompt != "completion"
    return {
        "template_date": clock_date(folder) if chat else None,
        "text_model": _version("text_config" in (read_config(folder) or {})),
        "processor_template": _version(chat and has_template_of_processor(folder)),
        "system_merged": _version(chat and data.sends_system_message and _lacks_system_role(folder)),
    }


def _version(applies: bool) -> int | None:
    return VERSION if applies else None


def _lacks_system_role(folder: Path) -> bool:
    from bench.engines.tokenizer import CheckpointTokenizer

    tokenizer = CheckpointTokenizer(str(folder), "cpu")
    return tokenizer.style == "chat" and not tokenizer.takes_system_message
