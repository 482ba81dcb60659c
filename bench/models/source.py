"""Values of `--model`: an embedded name, a folder with a checkpoint or an adapter, a GGUF file, or a hub id."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from bench.errors import UsageError, os_reason
from bench.models.adapter import Adapter, is_adapter
from bench.models.checkpoint import check_file, json_object
from bench.models.embedded import ACCEPTED, DEFAULT_MODEL, EMBEDDED
from bench.models.headers import weight_files
from bench.models.hub import HubModel
from bench.models.interface import ModelSource, PreparedModel, Progress, Provenance, silent
from bench.models.local import Folder, GgufFile

__all__ = ["DEFAULT_MODEL", "ModelSource", "PreparedModel", "Progress", "Provenance", "resolve", "silent"]

GGUF_MAGIC = b"GGUF"
HUB_ID = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
PATH_LIKE = re.compile(r"[./~].*|.*[\\].*|.*/|.*/.*/.*|.*\.(gguf|safetensors)", re.DOTALL)


def resolve(name: str) -> ModelSource:
    """Return the source of a model name, without downloading anything.

    Embedded names take precedence over files and folders, and these over hub ids (`owner/name[@revision]`).

    Args:
        name: Name such as `tiny-adder`, `./checkpoint`, `model.gguf` or `Qwen/Qwen2.5-3B@main`.

    Raises:
        UsageError: If the name is none of these.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    # Unlike pathlib's methods, these functions accept every string.
    path = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isdir(path):  # noqa: PTH112
        return _folder(Path(path).resolve())
    if os.path.exists(path):  # noqa: PTH110
        return _gguf_file(name, Path(path).resolve())
    match = HUB_ID.fullmatch(name)
    if PATH_LIKE.fullmatch(name) and not (match and match["revision"]):
        raise UsageError(f"--model {name}: no such file or folder; {ACCEPTED}")
    close = difflib.get_close_matches(name.lower(), EMBEDDED, n=1, cutoff=0.6)
    if close:
        raise UsageError(f"--model {name}: no such model; did you mean {close[0]}?")
    if match is None:
        raise UsageError(f"--model {name!r}: neither a path nor a hub id; {ACCEPTED}")
    return HubModel.named(match["id"], match["revision"])


def _folder(folder: Path) -> ModelSource:
    if is_adapter(folder):
        return Adapter.at(folder, resolve)
    if (folder / "artifact").is_dir():
        raise UsageError(f"--model {folder}: a run directory; its model is in {folder / 'artifact'}")
    if not (folder / "config.json").exists():
        raise UsageError(
            f"--model {folder}: holds no config.json; expected a checkpoint: config.json, weights, tokenizer"
        )
    json_object(folder / "config.json")
    weight_files(folder)
    return Folder.at(folder)


def _gguf_file(name: str, file: Path) -> GgufFile:
    try:
        check_file(file)
        with file.open("rb") as opened:
            magic = opened.read(len(GGUF_MAGIC))
        if magic != GGUF_MAGIC:
            raise UsageError(f"--model {name}: not a GGUF file; {ACCEPTED}")
        return GgufFile.at(file)
    except OSError as error:
        raise UsageError(f"--model {name}: cannot be read: {os_reason(error, 'model')}") from error
