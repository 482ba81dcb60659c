"""Checks of the weights that transformers has loaded, by the report that it makes of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from bench.errors import UsageError
from bench.models.checkpoint import read_config
from bench.models.headers import Header

WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "base_model.model.": "peft",
    "module.": "data-parallel training",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
}
"""Parts that trainers add to the names of weights, and who adds them."""
NAMED = 3
"""Number of weights that a message names of each kind."""


def without(loaded: dict[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """Return the report of a load without the weights of a multimodal model that its text model leaves out."""
    return {**loaded, **{kind: set(loaded[kind]) - set(left_out) for kind in ("missing_keys", "unexpected_keys")}}


def check_loaded(folder: Path, model: str, loaded: dict[str, Any], expected: Iterable[str]) -> None:
    """Check the report of a load.

    Raises:
        UsageError: If weights are missing, unexpected or of another shape.
    """
    missing, unexpected = sorted(loaded["missing_keys"]), sorted(loaded["unexpected_keys"])
    reshaped = [
        f"{name} is {list(stored)} in the file and {list(needed)} in the model"
        for name, stored, needed in sorted(loaded["mismatched_keys"])
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    if not any(kinds.values()):
        return
    found = ", ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names)
    raise UsageError(
        f"{folder}: the weights are not those of {model}: {found}; {_remedy(folder, model, unexpected, set(expected))}"
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _remedy(folder: Path, model: str, unexpected: list[str], expected: set[str]) -> str:
    for name in unexpected:
        for part, origin in WRAPPERS.items():
            if part in name and (name.replace(part, "") in expected or name.startswith(part)):
                return f"{origin} has put {part} into the names, so save the model that it wraps"
    for name in unexpected:
        if end := next((other for other in expected if name.endswith(f".{other}")), None):
            return f"the names begin with {name.removesuffix(end)}, so save the model that this part belongs to"
    named = (read_config(folder) or {}).get("architectures") or [model]
    if named != [model]:
        return f"config.json names {', '.join(map(str, named))}, and a causal language model ({model}) is needed"
    return "save the whole model again, or correct config.json"


def refuse_unmerged(folder: Path, error: Exception) -> None:
    """Raise a `UsageError` if a load failed because weights that transformers merges do not fit together."""
    if "conversion of the weights" in str(error):
        raise UsageError(
            f"{folder}: weights that transformers merges, such as the experts of a layer, do not fit together: one is "
            "missing or of another shape; save the whole model again, or correct config.json"
        ) from error


def check_tied(folder: Path, tied: Mapping[str, str], headers: Mapping[str, Header]) -> None:
    """Check that weights which the configuration ties have one value, where a checkpoint stores them under both names.

    Otherwise transformers would leave them apart, and vLLM would not.
    """
    for name, other in tied.items():
        if name in headers and other in headers and not torch.equal(*(_value(headers, n) for n in (name, other))):
            raise UsageError(
                f"{folder / 'config.json'}: ties {name} to {other}, and {headers[name].file.name} holds another value; "
                "set tie_word_embeddings to false, or remove the one that is not meant from the file"
            )


def _value(headers: Mapping[str, Header], name: str) -> torch.Tensor:
    with safe_open(headers[name].file, "pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor
