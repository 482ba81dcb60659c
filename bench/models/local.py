"""Models on this machine: checkpoint folders and GGUF files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.models import convert
from bench.models.checkpoint import file_sha256, folder_sha256, read_config
from bench.models.folder import check_files
from bench.models.interface import ModelSource, PreparedModel, Progress, Provenance, silent


@dataclass(frozen=True)
class Folder(ModelSource):
    """A checkpoint folder, identified by its path.

    Attributes:
        folder: Absolute path.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Folder:
        """Return the source for an absolute path."""
        return cls(folder.name, slug(folder.name, hashlib.sha256(str(folder).encode()).hexdigest()), folder)

    def config(self) -> dict[str, Any] | None:
        """Return the folder's configuration."""
        return read_config(self.folder)

    def local(self) -> Path | None:
        """Return the folder."""
        return self.folder

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Check and hash the folder, and return it. Nothing is copied."""
        check_files(self.folder)
        progress(f"hashing {self.folder}", 0, None)
        provenance = Provenance(str(self.folder), folder_sha256(self.folder), None)
        return PreparedModel(str(self.folder), None, provenance)


@dataclass(frozen=True)
class GgufFile(ModelSource):
    """A GGUF file, identified by its content, so that a copy at another path is not converted again.

    Attributes:
        file: Absolute path.
        sha256: Hash of the file.
    """

    file: Path
    sha256: str

    @classmethod
    def at(cls, file: Path) -> GgufFile:
        """Return the source for an absolute path. Reads the whole file to hash it."""
        sha256 = file_sha256(file)
        return cls(file.stem, slug(file.stem, sha256), file, sha256)

    def config(self) -> dict[str, Any] | None:
        """Return the configuration if the file is already converted, else None."""
        return convert.cached_config(self.sha256)

    def local(self) -> Path | None:
        """Return the converted checkpoint if it is in the cache, else None."""
        return convert.cached(self.sha256)

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Return the converted checkpoint, and convert the file first if it is not in the cache."""

        def link(folder: Path) -> Path:
            source = folder / "source.gguf"
            source.symlink_to(self.file)
            return source

        return convert.prepared(self.sha256, link, str(self.file), progress)


def slug(name: str, sha256: str) -> str:
    """Return a name for folders: the readable part of a name, and the beginning of a hash."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-') or 'model'}-{sha256[:8]}"
