"""What a model source is: a name that becomes a checkpoint folder when it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol


class Progress(Protocol):
    """Receives news of slow work."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take note of `done` of `total` bytes in this stage; `total` is None where the end is unknown."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Take no note."""


@dataclass(frozen=True)
class Provenance:
    """Where a model's files came from.

    Attributes:
        origin: Package, path, or hub id with its commit.
        sha256: Hash of the source file; for a folder, of the names and hashes of its checkpoint files.
        licence: As the source declares it, or None if it does not.
    """

    origin: str
    sha256: str
    licence: str | None


@dataclass(frozen=True)
class PreparedModel:
    """A checkpoint on this machine, opened by `AutoModelForCausalLM.from_pretrained(path)` without a network.

    Attributes:
        path: Local folder.
        revision: Commit of the hub that the folder holds; None for a model that came from elsewhere.
        provenance: Where the files came from.
    """

    path: str
    revision: str | None
    provenance: Provenance


@dataclass(frozen=True)
class ModelSource(ABC):
    """A model by name, before anything was downloaded.

    Attributes:
        label: What tables show.
        slug: A file name for run directories: the same in every run, and another one for another source.
    """

    label: str
    slug: str

    @abstractmethod
    def config(self) -> dict[str, Any] | None:
        """Return the model's `config.json`, without torch and without a download; None if that cannot be."""

    def ready(self) -> bool:
        """Whether `prepare` needs neither download nor conversion."""
        return True

    @abstractmethod
    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Make the checkpoint available, downloading and converting what is not there yet.

        Raises:
            BenchError: If it cannot be had; the message says what would do instead.
        """
