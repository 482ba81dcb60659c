"""A board as a Space: the static website of `bench report`, made from records alone.

Answers of models and paths of the machine are in no record, so none is published.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bench.errors import Refused
from bench.hub.client import Content, Hub, Repository
from bench.hub.model import CARD
from bench.hub.model_card import TAG
from bench.records.files import write_atomically
from reports.leaderboard.committed import compact, record_path
from reports.reading import read_records


def write_published(runs: Iterable[Path], folder: Path) -> tuple[str, ...]:
    """Write runs as record files. Return the reason for each run that cannot be read."""
    found, unreadable = read_records(runs)
    for record in found.values():
        write_atomically(record_path(record, folder), compact(record))
    return unreadable


def write_card(name: str, folder: Path) -> None:
    """Write the card of a Space that shows `index.html`."""
    from huggingface_hub import SpaceCardData

    title = name.partition("/")[2]
    data = SpaceCardData(title=title, sdk="static", app_file="index.html", tags=[TAG])
    text = "The leaderboard of bench, a referee for LLM post-training methods, and one page per run."
    write_atomically(folder / CARD, f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n{text}\n")


def check_board(hub: Hub, there: Content | None, repository: Repository) -> None:
    """Check that a Space is empty, or holds a board.

    Raises:
        Refused: If it holds something else.
    """
    if there is None or not there.files:
        return
    card = hub.read(repository, there, CARD).decode(errors="replace") if CARD in there.files else ""
    if not re.search(rf"^- {TAG}$", card, re.MULTILINE):
        raise Refused(f"{repository}: holds files that bench did not push; push to another Space, or give --replace")
