"""Digest of a model's weights as loaded, independent of the files that they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

THREADS = 2


def digest(named_tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes, independent of their order and division into files.

    Args:
        named_tensors: Tensors under their names in the model, tied ones under one: see `bench.models.tensors.held`.

    Raises:
        ValueError: If two names share memory. Checkpoints do not agree on which of the two names they store, so the
            digest would not be well defined.
    """
    names: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, tensor in named_tensors.items():
        first = names.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
        if first != name and tensor.numel():
            raise ValueError(f"{first} and {name} are one tensor; pass tied tensors under one name")
    ordered = sorted(named_tensors.items())
    # hashlib releases the GIL while it hashes, so threads suffice.
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda item: _tensor_digest(*item), ordered)
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _tensor_digest(name: str, tensor: torch.Tensor) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    dtype = str(tensor.dtype).removeprefix("torch.")
    state = hashlib.sha256(f"{name}\0{dtype}\0{tuple(tensor.shape)}\0".encode())
    state.update(flat.view(torch.uint8).numpy())
    return state.digest()
