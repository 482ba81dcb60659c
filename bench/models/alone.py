"""Work on a model's files in a process of its own, which cannot hang, fill the memory or outlive this one.

A model's files may be hostile or damaged, and the libraries that read them trust their sizes. The process has limits of
memory and time, and what it says is shown with control characters escaped.
"""

from __future__ import annotations

import errno
import os
import resource
import runpy
import signal
import subprocess
import sys
from pathlib import Path

from bench.errors import BenchError
from bench.imports import child_environment
from bench.plain import sentence

GIB = 1 << 30
BASE_MEMORY = 8 * GIB
MEMORY_PER_BYTE = 32
"""Memory in bytes that the work may take: a base for the libraries, and a multiple of the size of its files.

A GGUF file in the smallest format has 1.6 bits for a weight, which is held in float32 and then in bfloat16.
"""
BASE_SECONDS = 600.0
BYTES_PER_SECOND = 1_000_000
"""Time that the work may take: a base, and more for large files, at less than the speed of a slow disk."""


def run_alone(module: str, arguments: list[str], failed: str, *, size: int) -> None:
    """Run a module in a process of its own, which frees its memory when it ends, and keeps its warnings to itself.

    Args:
        module: Module that ends with a message on stderr if it fails.
        arguments: Arguments of the command line.
        failed: Beginning of the message if it fails, such as `model.gguf could not be converted`.
        size: Size of the files that it works on, in bytes, from which its limits follow.

    Raises:
        OSError: If the disk is full.
        BenchError: If the module fails, or reaches a limit.
    """
    environment = {
        **child_environment(),
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    memory, seconds = BASE_MEMORY + MEMORY_PER_BYTE * size, BASE_SECONDS + size / BYTES_PER_SECOND
    command = [sys.executable, "-m", __name__, str(os.getpid()), str(memory), module, *arguments]
    try:
        child = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{failed}: not done after {seconds / 60:.0f} minutes; the files may be damaged") from error
    if child.returncode == 0:
        return
    said = child.stderr.decode(errors="replace").strip()
    if os.strerror(errno.ENOSPC) in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if child.returncode < 0:
        reason = f"killed by signal {-child.returncode}, perhaps for lack of memory"
    else:
        reason = sentence((said or "no reason given").splitlines()[-1])
    raise BenchError(f"{failed}: {reason}")


def confine(memory: int, parent: int) -> None:
    """Limit the memory of this process, and let it end with its parent.

    Args:
        memory: Bytes that it may allocate. Files that it maps do not count.
        parent: Process id of the parent.
    """
    for kind, limit in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    if sys.platform == "linux":
        from bench.sandbox.inside.linux import PR_SET_PDEATHSIG, prctl

        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os.kill(os.getpid(), signal.SIGKILL)


def folder_size(folder: Path) -> int:
    """Return the size of the weights in a folder, in bytes."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def main(parent: str, memory: str, module: str, *arguments: str) -> None:
    """Run a module under limits. It gets its arguments as on a command line."""
    confine(int(memory), int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
