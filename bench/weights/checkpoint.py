"""Trained weights as an alternative to a point around the base."""

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
TRAINED = "trained.safetensors"
"""Weights as trained, beside FILE if they are of a wider dtype than the deployed ones."""
FINISHED = "finished"
"""Folder, in that of a training, of the checkpoint that it ends with."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were produced by training.

    Attributes:
        folder: Folder of the weights on this machine; not part of their identity. Its FILE, or the several files of a
            large model, have them as deployed.
        digest: sha256 over the tensors' names in the model, dtypes, shapes and bytes.
    """

    folder: Path = field(compare=False, repr=False)
    digest: str

    @property
    def is_base(self) -> bool:
        """Always False, even if training left the values unchanged."""
        return False

    def step(self, displacement: Point) -> Place:
        """Return the point at a displacement from these weights, with them as its centre.

        Raises:
            ValueError: If the displacement has a centre.
        """
        if displacement.centre:
            raise ValueError("a step has a centre of its own; it must be a displacement without one")
        return self if displacement.is_base else Point(displacement.amplitudes, displacement.noise, (self,))


Place = Point | Checkpoint
"""Position of a model's weights: a point around the base, or a checkpoint."""


def write_checkpoint(
    folder: Path, tensors: Mapping[str, torch.Tensor], dtypes: Mapping[str, torch.dtype] | None = None
) -> Checkpoint:
    """Write tensors into a folder atomically, and replace its previous content.

    Args:
        folder: Folder to write.
        tensors: Tensors under the names of the model, each storage once: see `bench.models.tensors.held`.
        dtypes: Dtype that each is deployed in; None for their own. If one differs, all are also kept as they are.

    Raises:
        bench.records.files.WriteFailed: If the folder cannot be written.
    """
    from safetensors.torch import save_file

    trained = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    deployed = trained if dtypes is None else {name: tensor.to(dtypes[name]) for name, tensor in trained.items()}
    with folder_atomically(folder) as new, full_disk_as_os_error():
        save_file(deployed, new / FILE, metadata={"format": "pt"})
        if any(deployed[name] is not tensor for name, tensor in trained.items()):
            save_file(trained, new / TRAINED, metadata={"format": "pt"})
    return Checkpoint(folder, digest(deployed))


@contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """Convert the error that safetensors raises on a full disk to an OSError, as for every other file.

    Raises:
        OSError: If safetensors fails inside the block.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


def open_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder, with the digest of its current content.

    Raises:
        BenchError: If its weights cannot be read.
    """
    return Checkpoint(folder, digest(_deployed(folder)))


def saved_digest(folder: Path) -> str | None:
    """Return the digest of the weights of a Hugging Face checkpoint, as its model has them; None if it has none."""
    tensors = saved_weights(folder)
    return digest(tensors) if tensors else None


def saved_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the deployed tensors of a checkpoint under the names of its model; empty if it has none.

    The files are mapped into memory, so a tensor takes none until it is read. If they hold the tensors in another form
    (see `bench.models.tensors`), transformers loads the model.

    Raises:
        BenchError: If a file cannot be read.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if file.name != TRAINED:
            tensors |= _tensors(file)
    if not tensors or not (folder / "config.json").exists():  # written by `write_checkpoint`
        return tensors
    from bench.models.tensors import files_hold_tensors_of_model, read_held

    return tensors if files_hold_tensors_of_model(folder) else read_held(folder)


def _deployed(folder: Path) -> dict[str, torch.Tensor]:
    return saved_weights(folder) or _tensors(folder / FILE)  # whose error names the file that is missing


def read_checkpoint(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors by name.

    Raises:
        BenchError: If the file is missing, or its content has changed since it was written.
    """
    try:
        tensors = _deployed(checkpoint.folder)
    except BenchError as error:
        raise BenchError(f"{error}; start the run again") from error
    if (found := digest(tensors)) != checkpoint.digest:
        raise BenchError(
            f"{checkpoint.folder / FILE}: has digest {found[:12]} where {checkpoint.digest[:12]} was written; start "
            "the run again"
        )
    return tensors


def read_trained(checkpoint: Checkpoint) -> dict[str, torch.Tensor] | None:
    """Return a checkpoint's tensors as trained, before they were rounded to the dtype that they are deployed in.

    None if they were not kept: versions up to 0.1 wrote the deployed weights only.

    Raises:
        BenchError: If a file is missing, or its content has changed since it was written.
    """
    import torch

    deployed, path = read_checkpoint(checkpoint), checkpoint.folder / TRAINED
    if not path.exists():
        return deployed if all(tensor.dtype == torch.float32 for tensor in deployed.values()) else None
    trained = _tensors(path)
    rounded = {name: tensor.to(deployed[name].dtype) for name, tensor in trained.items() if name in deployed}
    if digest(rounded) != checkpoint.digest:
        raise BenchError(f"{path}: rounded, it is not the checkpoint beside it; start the run again")
    return trained


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BenchError(f"{path}: weights cannot be read ({error})") from error
    return tensors
