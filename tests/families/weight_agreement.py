"""Whether the weights of a family's tiny model move exactly, and open again as they were saved.

    moves_exactly("mixtral")  # [] if they do, else what is wrong

Both run without an engine, on a model that transformers loaded from a folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from tiny_families import make
from transformers import PreTrainedModel

import bench.models
from bench.models.checkpoint import folder_sha256
from bench.models.digest import digest
from bench.models.multimodal import keeps_whole
from bench.models.opening import check_opens, open_model, save_model
from bench.models.tensors import as_filed, deployed_dtypes, held, movable
from bench.weights.checkpoint import Checkpoint, open_checkpoint, saved_digest, write_checkpoint
from bench.weights.noise import draw
from bench.weights.points import Point
from bench.weights.space import WeightSpace

Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")

POINT = Point({1: 0.02, 5: -0.01})
OTHER = Point({2: 0.03}).step(Point({3: 0.01, 1: 0.005}))
TOKENIZER = Path(bench.models.__path__[0]) / "tiny_adder"

Tensors = dict[str, torch.Tensor]


def moves_exactly(family: str, dtype: Dtype = "float32") -> list[str]:
    """Return what is wrong with moves of a family's tiny model through weight space; empty if nothing is.

    Each floating-point parameter that transformers trains must move by noise of its own, as NumPy draws it, and no
    other tensor. A point must have the same bits by whatever way it is reached, and so must the base.
    """
    with TemporaryDirectory() as folder:
        make(family).save_pretrained(folder)
        model, again = (open_model(Path(folder), dtype) for _ in range(2))
    return list(_wrong_moves(model, again))


def _wrong_moves(model: PreTrainedModel, again: PreTrainedModel) -> Iterator[str]:
    moving, live = movable(model), held(model)
    base = _copied(live)
    space = WeightSpace(moving, tensors=live)
    space.move_to(POINT)
    for name, tensor in live.items():
        expected = _moved(name, base[name]) if name in moving else base[name]
        if not _same_bits(tensor, expected):
            yield f"{name} is not where its noise leads"
        if name in moving and torch.equal(tensor, base[name]):
            yield f"{name} does not move"
    still = live.keys() - moving.keys()
    if wrong := [n for n, p in model.named_parameters() if n in still and p.requires_grad and p.is_floating_point()]:
        yield f"{', '.join(wrong)} should move"
    at_point = _copied(live)
    space.move_to(OTHER)
    at_other = _copied(live)
    space.move_to(Point())
    if not _all_same(live, base):
        yield "the base does not come back after two moves"
    other_way = WeightSpace(movable(again), tensors=(others := held(again)))
    for point, expected in ((OTHER, at_other), (POINT, at_point), (Point(), base)):
        other_way.move_to(point)
        if not _all_same(others, expected):
            yield f"the weights at {point.digest[:8]} depend on the way there"


def saved_equal(family: str, dtype: Dtype = "float32") -> list[str]:
    """Return what is wrong with saved weights of a family's tiny model after a move; empty if nothing is.

    The folder must open in transformers and here with the same bits, in safetensors files alone, and weight space must
    reach the saved weights from the base and return. Training ends in the dtypes that transformers loads.
    """
    with TemporaryDirectory() as scratch:
        folders = Path(scratch) / "base", Path(scratch) / "moved"
        make(family).save_pretrained(folders[0])
        return list(_wrong_saves(*folders, dtype))


def _wrong_saves(start: Path, folder: Path, dtype: Dtype) -> Iterator[str]:
    model = open_model(start, dtype)
    live = held(model)
    base = _copied(live)
    space = WeightSpace(movable(model), tensors=live)
    for name, buffer in dict(model.named_buffers()).items():  # as a model that was trained elsewhere may have them
        if name in live and buffer.is_floating_point():
            buffer.add_(0.125)
    changed = {name: tensor.clone() for name, tensor in live.items() if name not in movable(model)}
    space.move_to(POINT)
    for name, tensor in changed.items():
        live[name].copy_(tensor)
    saved = _copied(live)
    save_model(model, folder)
    for file in TOKENIZER.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    space.move_to(Point())
    if not _all_same(live, base):
        yield "the base does not come back after a save"
    if others := [file.name for file in folder.iterdir() if file.suffix not in (".json", ".safetensors")]:
        yield f"other files were saved: {', '.join(others)}"
    check_opens(folder, folder_sha256(folder), "completion")
    loaded = type(model).from_pretrained(folder, dtype=dtype)
    # Where transformers has no class for the text alone, its towers are saved and opened with it.
    text = {name: tensor for name, tensor in held(loaded).items() if name in saved or not keeps_whole(model)}
    if not _all_same(text, saved):
        yield "transformers opens other weights than were saved"
    if not _all_same(_files(folder), as_filed(loaded, held(loaded))):
        yield "the files do not hold what as_filed returns"
    checkpoint = open_checkpoint(folder)
    if not checkpoint.digest == saved_digest(folder) == digest(saved):
        yield "the digest of the files is not that of the weights"
    yield from _wrong_loads(space, live, saved, checkpoint)
    trained = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in saved.items()}
    written = write_checkpoint(
        folder.parent / "trained", trained, deployed_dtypes(loaded.float(), getattr(torch, dtype))
    )
    if written.digest != checkpoint.digest:
        yield "trained weights are not deployed in the dtypes that transformers loads"
    yield from _wrong_loads(space, live, saved, written)


def _wrong_loads(space: WeightSpace, live: Tensors, saved: Tensors, checkpoint: Checkpoint) -> Iterator[str]:
    base = _copied(live)
    space.load(checkpoint)
    if not _all_same(live, saved):
        yield f"weight space loads other weights than were saved in {checkpoint.folder.name}"
    space.move_to(Point())
    if not _all_same(live, base):
        yield f"the base does not come back from {checkpoint.folder.name}"


def _moved(name: str, base: torch.Tensor) -> torch.Tensor:
    """Return a tensor at POINT, computed from NumPy's noise."""
    scale = max(abs(amplitude) for amplitude in POINT.amplitudes.values())
    total = torch.zeros(base.shape)
    for seed, amplitude in POINT.amplitudes.items():
        noise = np.empty(tuple(base.shape), np.float32)
        draw(seed, name, noise)
        total += torch.from_numpy(noise) * float(np.float32(amplitude / scale))
    return (base.float() + total * scale).to(base.dtype)


def _files(folder: Path) -> Tensors:
    found: Tensors = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, not a mapping
    return found


def _copied(tensors: Tensors) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _all_same(one: Tensors, two: Tensors) -> bool:
    return one.keys() == two.keys() and all(_same_bits(one[name], two[name]) for name in one)


def _same_bits(one: torch.Tensor, two: torch.Tensor) -> bool:
    return (one.dtype, one.shape) == (two.dtype, two.shape) and torch.equal(
        *(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, two))
    )
