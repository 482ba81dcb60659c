"""Check of a checkpoint folder by its files alone, without torch: whether it holds a model that can be run.

What only transformers can tell, such as which weights the model needs, is checked in `bench.models.opening`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import UsageError, shown
from bench.models.checkpoint import FILES, LARGEST_TEXT, check_file, json_object
from bench.models.headers import read_headers

ADAPTER = "adapter_config.json"
SETTINGS = ("generation_config.json", "tokenizer_config.json")
"""Files that transformers would leave out in silence if they could not be read."""
PARSED = ("tokenizer.json", "vocab.*", "merges.txt", "*.jinja", "additional_chat_templates/*.jinja")
"""Patterns of files that transformers reads as a whole, besides those that are read here."""
IN_PLACE = {
    "transformers_weights": "weights of another name; rename the files to model.safetensors or its shards",
    "configuration_files": "other configurations in place of this file; copy the one that is meant to config.json",
}
"""Fields of config.json that make transformers load other files than those that are checked, and the remedy."""


def check_files(folder: Path) -> None:
    """Check that a folder holds the files of an unquantised model, and nothing that would change it in silence.

    Raises:
        UsageError: If it does not. The message names the file and the remedy.
    """
    config = json_object(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise UsageError(
            f"{folder / 'config.json'}: model_type is {shown(config.get('model_type'))}; expected the name of a model "
            'type, such as "llama"; copy the file from the original model'
        )
    if (folder / ADAPTER).exists():
        # transformers would apply the adapter if peft is installed, and vLLM would not.
        raise UsageError(
            f"{folder / ADAPTER}: an adapter lies beside the weights of a model, and it is not clear whether it is "
            "meant; move the adapter's files into a folder of their own and give --model that one, or remove them"
        )
    _check_precision(folder, config.get("quantization_config"))
    for name in SETTINGS:
        if (folder / name).exists():
            json_object(folder / name)
    check_contained(folder)


def check_contained(folder: Path) -> None:
    """Check that all that transformers loads from a folder are files in it, so that the folder's hash covers them.

    Raises:
        UsageError: If a file is a pipe, a pointer or too large, or lies outside the folder, or if a setting names one
            that does. Links of the hub's cache to its own blobs are allowed.
    """
    for file in sorted({path for pattern in FILES for path in folder.glob(pattern) if not path.is_dir()}):
        if not file.exists():
            raise UsageError(f"{file}: a link to {file.readlink()}, which does not exist; copy the file there")
        check_file(file)
        _check_inside(folder, file)
    for file in (path for pattern in PARSED for path in folder.glob(pattern) if path.is_file()):
        check_file(file, LARGEST_TEXT)
    if (config := folder / "config.json").exists():
        _check_config(config)
    if (settings := folder / "tokenizer_config.json").exists():
        _check_tokenizer(settings)


def _check_inside(folder: Path, file: Path) -> None:
    """Check that a file is in its folder, and is no link out of it."""
    home, target = folder.resolve(), file.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":  # of the hub's cache: its files are links to the blobs of the repository
        allowed += [parent / "blobs" for parent in home.parents[1:3]]
    if not any(target.is_relative_to(place) for place in allowed):
        raise UsageError(f"{file}: a link to {target}, outside the folder; copy the file into the folder in its place")


def _check_config(file: Path) -> None:
    """Check that a configuration names no other files, and no code on the hub."""
    config = json_object(file)
    for field, what in IN_PLACE.items():
        if config.get(field):
            raise UsageError(f"{file}: {field} is {shown(config[field])}, and names {what}, and remove the field")
    for field, value in _fields(config):
        if field.endswith("attn_implementation") and "/" in str(value):
            raise UsageError(
                f"{file}: {field} is {shown(value)}, code on the hub, and no code is run for a model's files; remove "
                "the field"
            )


def _fields(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a configuration and of those within it, such as `text_config`."""
    waiting = [settings]
    while waiting:
        for field, value in waiting.pop().items():
            yield field, value
            if isinstance(value, dict):
                waiting.append(value)


def _check_tokenizer(file: Path) -> None:
    """Check that a tokenizer's settings name no files outside the folder.

    Names of the machine that saved the settings, such as `"tokenizer_file": "/home/me/tokenizer.json"`, are harmless
    where nothing has that name.
    """
    settings = json_object(file)
    versions = settings.get("fast_tokenizer_files") or []
    for name in versions if isinstance(versions, list) else [versions]:
        if not isinstance(name, str) or Path(name).name != name:
            raise UsageError(
                f"{file}: fast_tokenizer_files has {shown(name)}; expected names of files in the folder, so copy the "
                "one that is meant to tokenizer.json, and remove the field"
            )
    for field, name in settings.items():
        if field.endswith("_file") and isinstance(name, str) and _is_elsewhere(name, file.parent):
            raise UsageError(
                f"{file}: {field} is {shown(name)}, outside the folder; copy that file into the folder if it is meant, "
                "and remove the field"
            )


def _is_elsewhere(name: str, folder: Path) -> bool:
    try:
        path = Path(name)
        return path.exists() and not path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # too long for a path, a null character, a loop of links
        return False


def _check_precision(folder: Path, quantisation: object) -> None:
    remedy = "use the original model, or save a dequantised one"
    if quantisation:
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
        raise UsageError(
            f"{folder / 'config.json'}: the model is quantised ({shown(method)}), so its weights cannot be moved or "
            f"trained; {remedy}"
        )
    for name, header in read_headers(folder).items():
        small = header.dtype.startswith(("F8", "F6", "F4"))
        if small or (name.endswith("weight") and header.dtype.startswith(("I", "U", "BOOL"))):
            raise UsageError(
                f"{header.file}: {name} is stored as {header.dtype}, so the model is quantised, and its weights cannot "
                f"be moved or trained; {remedy}"
            )
