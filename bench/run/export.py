"""Export of a run's weights in float32, before they were rounded to the dtype that the run tested them in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError, model_validator

from bench.engines.tokenizer import CheckpointTokenizer
from bench.errors import BenchError, UsageError, usage_error
from bench.models.checkpoint import configured_dtype
from bench.models.digest import digest
from bench.models.source import resolve
from bench.records.schema import Result
from bench.weights.checkpoint import (
    FINISHED,
    Checkpoint,
    full_disk_as_os_error,
    open_checkpoint,
    read_checkpoint,
    read_trained,
)
from bench.weights.noise import NOISE_VERSION, Noise, NoiseKind, NoiseModules, NoiseScale
from bench.weights.points import Point
from bench.weights.space import WeightSpace

ORIGIN = "point.json"
"""File of a single model's artifact that says where its weights came from. See `methods.interface.describe_point`."""


def write_float32(run: Path, result: Result, folder: Path) -> None:
    """Replace the weights in a copy of a run's artifact by their float32 values.

    An artifact of several models holds no weights, and stays as it is.

    Args:
        run: Run directory.
        result: Its record.
        folder: Copy of the run's artifact, in which each single model has a folder.

    Raises:
        UsageError: If the artifact has no single model.
        BenchError: If the run has no float32 weights, or the base is no longer that of the run.
    """
    folders = [file.parent for file in sorted(folder.rglob(ORIGIN))]
    if not folders:
        raise UsageError(f"--dtype float32: the artifact of {run} is not one model, and has no weights; leave it out")
    if result.engine.get("dtype") == "float32":
        return
    from bench.models.opening import save_model
    from bench.models.tensors import movable
    from bench.weights.layers import layout_of

    for each in folders:
        model, tensors = open_base(result)
        origin = read_origin(each / ORIGIN)
        if "checkpoint" in origin:
            trained = read_trained(_trained(run, origin["checkpoint"]))
            if trained is None:
                raise BenchError(f"{run}: an earlier version of bench trained it and kept no float32 weights")
            _write(trained, tensors)
        else:
            point = read_point(each / ORIGIN, origin)
            if "start" in origin:  # the run added the noise to the weights as deployed
                _write(_start(run, origin["start"]), tensors)
            WeightSpace(movable(model), tensors=tensors, layout=layout_of(model)).move_to(point)
        for old in each.glob("*.safetensors*"):  # a large model has several, and an index
            old.unlink()
        with full_disk_as_os_error():
            save_model(model, each)


def rounds_to_tested(folder: Path, result: Result) -> bool:
    """Return whether a folder holds float32 weights that are, in the run's dtype, those that the run tested.

    Args:
        folder: Folder that `write_float32` wrote.
        result: Record of the run.
    """
    import torch

    from bench.models.opening import open_model
    from bench.models.tensors import held

    dtype = getattr(torch, str(result.engine["dtype"]))
    models = {folder / row.label: row.weights for row in result.artifacts if (folder / row.label / ORIGIN).exists()}
    return bool(models) and all(
        configured_dtype(each) == "float32" and digest(held(open_model(each, dtype))) == weights
        for each, weights in models.items()
    )


def _start(run: Path, digest: str) -> dict[str, Any]:
    """Return the tensors, as deployed, of the checkpoint that an artifact lies around.

    Raises:
        BenchError: If they are not among the run's trainings.
    """
    try:
        return read_checkpoint(_trained(run, digest))
    except BenchError as error:
        raise BenchError(f"{error}, or leave out --dtype float32: the artifact lies around these weights") from error


def _write(weights: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(weights[name])


def _trained(run: Path, digest: str) -> Checkpoint:
    """Return a checkpoint of a run, whose method may have trained several times."""
    first = run / "training" / FINISHED
    found = [first, *sorted(first.parent.glob(f"*/{FINISHED}"))]
    if len(found) > 1:
        return next((each for each in map(open_checkpoint, found) if each.digest == digest), Checkpoint(first, digest))
    return Checkpoint(first, digest)


def open_base(result: Result) -> tuple[Any, dict[str, Any]]:
    """Return the run's base, as it was deployed, in float32, and its tensors: see `bench.models.tensors.held`.

    Raises:
        BenchError: If the base on this machine is no longer that of the run.
    """
    import torch

    from bench.models.tensors import deployed_dtypes, held

    assert result.model is not None
    prepared = resolve(result.config.model).prepare()
    loader = CheckpointTokenizer(prepared.path, "cpu")
    loader.settings = result.engine
    model = loader.trainable()[0]
    tensors = held(model)
    dtypes = deployed_dtypes(model, getattr(torch, str(result.engine["dtype"])))
    if digest({name: tensor.to(dtypes[name]) for name, tensor in tensors.items()}) != result.model.digest:
        raise BenchError(f"{prepared.path}: its weights are not those that the run began with; restore them")
    return model, tensors


class _Origin(BaseModel):
    """Fields of an artifact's ORIGIN; see `methods.interface.describe_point`."""

    prompt: str
    checkpoint: str | None = None
    noise: str | None = None
    kind: NoiseKind | None = None
    scale: NoiseScale | None = None
    modules: NoiseModules | None = None
    amplitudes: dict[int, FiniteFloat] | None = None
    centre: list[dict[int, FiniteFloat]] | None = None
    start: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> _Origin:
        if self.checkpoint is None and None in (self.noise, self.kind, self.amplitudes):
            raise ValueError("expected either checkpoint, or noise, kind and amplitudes")
        return self


def read_origin(path: Path) -> dict[str, Any]:
    """Read an artifact's ORIGIN: its prompt, and where its weights came from. Fields that it lacks are left out.

    Raises:
        BenchError: If the file cannot be read, or has other fields than those of `methods.interface.describe_point`.
    """
    try:
        return _Origin.model_validate(json.loads(path.read_bytes())).model_dump(exclude_none=True)
    except ValidationError as error:
        raise BenchError(str(usage_error(str(path), error))) from error
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({error})") from error


def read_point(path: Path, origin: dict[str, Any]) -> Point:
    """Return the point that an artifact's ORIGIN describes, around the base or around the checkpoint of its `start`.

    Args:
        path: The file, for error messages.
        origin: Its content, see `methods.interface.describe_point`.

    Raises:
        BenchError: If this version of bench draws other noise.
    """
    if origin["noise"] != NOISE_VERSION:
        raise BenchError(f"{path}: its noise is {origin['noise']}, and this version of bench draws {NOISE_VERSION}")
    steps = [*origin.get("centre", []), origin["amplitudes"]]
    noise = Noise(**{name: origin[name] for name in ("kind", "scale", "modules") if name in origin})
    *centre, last = (Point({int(seed): a for seed, a in step.items()}, noise) for step in steps)
    return Point(last.amplitudes, noise, tuple(centre))
