"""Trained weights as a place that a model can stand at, beside the points around the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.models.digest import digest
from bench.records.files import folder_atomically
from bench.weights.points import Point

if TYPE_CHECKING:
    import torch

FILE = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Weights that training ended at.

    Attributes:
        folder: Where they lie on this machine; no part of what they are.
        digest: sha256 over their names, dtypes, shapes and bytes.
    """

    folder: Path = field(compare=False, repr=False)
    digest: str

    @property
    def is_base(self) -> bool:
        """False: weights that were trained are told from the base by where they came from, not by their values."""
        return False


Place = Point | Checkpoint
"""Where a model's weights may stand."""


def write_checkpoint(folder: Path, parameters: Mapping[str, torch.Tensor]) -> Checkpoint:
    """Write parameters into a folder, which takes the place of what stood there.

    Args:
        folder: Where to.
        parameters: Tensors by canonical Hugging Face name, each storage once (a tied head under one name).

    Raises:
        bench.records.files.WriteFailed: If it cannot be written.
    """
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}
    with folder_atomically(folder) as new, full_disk_as_os_error():
        save_file(plain, new / FILE, metadata={"format": "pt"})
    return Checkpoint(folder, digest(plain))


@contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """Let a disk that is full as tensors are written be the error that it is for every other file.

    Raises:
        OSError: In place of the error that safetensors has for it.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


def open_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint that lies in a folder, whoever wrote it, by the digest of what it holds.

    Raises:
        BenchError: If its weights cannot be read.
    """
    return Checkpoint(folder, digest(_tensors(folder / FILE)))


def read_checkpoint(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors by name.

    Raises:
        BenchError: If the file is missing, or does not hold what was written.
    """
    path = checkpoint.folder / FILE
    try:
        tensors = _tensors(path)
    except BenchError as error:
        raise BenchError(f"{error}; start the run anew") from error
    if (found := digest(tensors)) != checkpoint.digest:
        raise BenchError(
            f"{path}: has digest {found[:12]} where {checkpoint.digest[:12]} was written; start the run anew"
        )
    return tensors


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BenchError(f"{path}: weights cannot be read ({error})") from error
    return tensors
