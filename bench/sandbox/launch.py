"""How the judge's own processes are started: a bare interpreter that is told nothing of its caller."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from inside import {module}; del sys.path[0];"
    " {module}.main(sys.argv[2:])"
)


def command(module: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `main` of a module of `inside` with the arguments.

    The interpreter takes no path from its folder (-P) or its user (-s) and loads no site packages (-S).
    """
    start = _START.format(module=module)
    return [sys.executable, "-P", "-s", "-S", "-c", start, str(Path(__file__).parent), *arguments]


def environment() -> dict[str, str]:
    """Returns the whole environment of the judge's processes; they empty it before any program runs.

    String hashes are the same in every process, so that a program whose answer depends on the order of a set
    gets the same verdict every time; this is why the command says -P -s and not -I, which would ignore it.
    """
    loader = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PYTHONHASHSEED": "0"} | loader
