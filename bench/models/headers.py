"""Headers of a checkpoint's safetensors files: names, dtypes and shapes of the weights, without their values.

A safetensors file begins with the length of its header (8 bytes), and the header is a JSON object:
`{"model.norm.weight": {"dtype": "BF16", "shape": [576], "data_offsets": [0, 1152]}, ...}`.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from bench.errors import UsageError, os_reason, shown
from bench.models.checkpoint import check_file, configured_dtype, json_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model*.bin", "consolidated*.pth", "*.pt", "*.ckpt")
"""Patterns of weights in pickle files. transformers can load those of the first pattern."""
CONVERT = (
    "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
    "M.from_pretrained({0!r}, dtype='auto', use_safetensors=False).save_pretrained({1!r}); "
    "T.from_pretrained({0!r}).save_pretrained({1!r})"
)
"""Program that converts a folder with pickle files. transformers opens these with an unpickler that runs no code."""
FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""Names of the floating-point dtypes in a header, and torch's names for them."""
LARGEST_HEADER = 100_000_000
"""Limit of the safetensors format, in bytes."""
AGAIN = "copy or download the file again"


@dataclass(frozen=True)
class Header:
    """One tensor of a safetensors file.

    Attributes:
        dtype: Name of the dtype in the file, such as `BF16`.
        shape: Shape.
        file: File that holds the tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    file: Path


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a checkpoint's weights: one, or the shards that an index names.

    Raises:
        UsageError: If there are none, if a shard is missing or outside the folder, or if several sets of weights are
            there and it is not clear which one is meant.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    if parts := sorted(folder.glob("shard-*-model-*.safetensors")):
        raise UsageError(f"{parts[0]}: a part of a distributed checkpoint; save the whole model with save_pretrained")
    if single.exists() and index.exists():
        raise UsageError(f"{single}: there is also {INDEX}, which names other files; remove those that are not meant")
    if index.exists():
        return _shards(index)
    if single.exists():
        return [single]
    if others := sorted(folder.glob("*.safetensors")):
        raise UsageError(f"{others[0]}: expected weights in {WEIGHTS}, or {INDEX} and the files that it names")
    if pickles := sorted(file for pattern in PICKLES for file in folder.glob(pattern)):
        raise UsageError(f"{pickles[0]}: weights in pickle files can run code and are not read; {_converted(pickles)}")
    raise UsageError(f"{folder}: holds no {WEIGHTS}; expected a checkpoint folder, as save_pretrained writes it")


def _converted(pickles: list[Path]) -> str:
    """Return what to do with weights in pickle files."""
    folder = pickles[0].parent
    if not any(file.match(PICKLES[0]) for file in pickles):
        return "save the model with save_pretrained where you trust them, which writes safetensors"
    program = CONVERT.format(str(folder), f"{folder}-safetensors")
    return f"convert them, and give --model the new folder: python -c {shlex.quote(program)}"


def _shards(index: Path) -> list[Path]:
    content = json_object(index)
    if not isinstance(content.get("metadata"), dict):  # transformers raises a KeyError
        found = shown(content.get("metadata"))
        raise UsageError(f'{index}: metadata is {found}, and transformers needs an object; add "metadata": {{}}')
    named = content.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise UsageError(f"{index}: weight_map is {shown(named)}; expected the name of a file for each weight")
    files = []
    for name in sorted(set(named.values())):
        # The hash of the folder covers the files in it, and no others.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UsageError(f"{index}: names {shown(name)}; expected the name of a *.safetensors file in the folder")
        if not (index.parent / name).exists():
            raise UsageError(f"{index}: names {name}, and the folder has no such file; copy it there")
        files.append(index.parent / name)
    return files


def read_headers(folder: Path) -> dict[str, Header]:
    """Return the tensors of a checkpoint by name.

    Raises:
        UsageError: See `weight_files`; also if a file is damaged, or a tensor is in two files.
    """
    found: dict[str, Header] = {}
    for file in weight_files(folder):
        for name, header in file_headers(file).items():
            if name in found:
                raise UsageError(f"{file}: {name} is also in {found[name].file.name}; remove one of the two")
            found[name] = header
    return found


def count_weights(folder: Path) -> int:
    """Return the number of weights in a checkpoint's files.

    Raises:
        UsageError: See `read_headers`.
    """
    return sum(prod(header.shape) for header in read_headers(folder).values())


def file_headers(file: Path) -> dict[str, Header]:
    """Return the tensors of a safetensors file by name.

    Raises:
        UsageError: If the file cannot be read, is a Git LFS pointer, or is damaged.
    """
    try:
        check_file(file)
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= min(size - 8, LARGEST_HEADER):
                raise UsageError(f"{file}: its {size} bytes are no safetensors file, or are cut off; {AGAIN}")
            text = opened.read(length)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {os_reason(error, 'model')}") from error
    try:
        tensors = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        end = max((_natural(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        headers = {name: _header(entry, file) for name, entry in tensors.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file}: its safetensors header cannot be read ({error}); {AGAIN}") from error
    if 8 + length + end != size:
        raise UsageError(f"{file}: has {size} bytes, and its header describes {8 + length + end}; {AGAIN}")
    return headers


def _header(entry: dict[str, Any], file: Path) -> Header:
    if not isinstance(entry["dtype"], str):
        raise TypeError(f"a dtype is {shown(entry['dtype'])}")
    return Header(entry["dtype"], tuple(map(_natural, entry["shape"])), file)


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{shown(value)} is no size")
    return value


def weights_dtype(folder: Path) -> str | None:
    """Return the floating-point dtype that most of a checkpoint's values are stored in; None if there is none."""
    sizes: Counter[str] = Counter()
    for header in read_headers(folder).values():
        if header.dtype in FLOATS:
            sizes[FLOATS[header.dtype]] += prod(header.shape)
    return max(sizes, key=sizes.__getitem__) if sizes else None


def stored_dtype(folder: Path) -> str:
    """Return the dtype of a checkpoint's weights, such as `bfloat16`: what its configuration names, else its tensors'.

    Raises:
        UsageError: If neither tells.
    """
    found = configured_dtype(folder) or weights_dtype(folder)
    if found is None:
        raise UsageError(
            f"{folder}: neither config.json nor a safetensors file tells the dtype of the weights; set --dtype"
        )
    return found


def differing_dtypes(folder: Path) -> str | None:
    """Return a sentence if configuration and weights name different dtypes, else None.

    Example: `config.json names bfloat16, and the weights are stored in float32`.
    """
    named, stored = configured_dtype(folder), weights_dtype(folder)
    if None in (named, stored) or named == stored:
        return None
    return f"config.json names {named}, and the weights are stored in {stored}"
