"""Command line and environment of the sandbox's processes: a bare interpreter without information on its caller."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from inside import {module}; del sys.path[0];"
    " {module}.main(sys.argv[2:])"
)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs `main` of a module of `inside` with the arguments.

    The interpreter ignores the working folder (-P), the user's packages (-s) and site packages (-S).

    Args:
        module: Name of the module, such as `server`.
        arguments: Arguments of its `main`.
    """
    start = _START.format(module=module)
    return [sys.executable, "-P", "-s", "-S", "-c", start, str(Path(__file__).parent), *arguments]


def environment() -> dict[str, str]:
    """Return the complete environment of the sandbox's processes. They clear it before any program runs.

    PYTHONHASHSEED is fixed, so that a program whose result depends on the order of a set always gets the same verdict.
    The command uses -P -s instead of -I, because -I would ignore this variable.
    """
    loader = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # numpy would start threads, of which none is left after a fork.
    return {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | loader
