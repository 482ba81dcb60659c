"""Where Python imports from: a check that our packages are ours, and the environment of child processes.

The names `methods`, `tasks` and `reports` are common. A folder on PYTHONPATH or another installed package may have one
of them, and would then be imported in place of ours.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
"""Folder of the packages: a checkout, or where packages are installed."""
PACKAGES = ("bench", "methods", "reports", "tasks")


def check_packages() -> None:
    """Check where each package would be imported from. This imports none.

    Raises:
        UsageError: If one would be imported from another folder than `bench`. The message names it and the remedy.
    """
    for name in PACKAGES[1:]:
        spec = None if sys.modules.get(name, True) is None else find_spec(name)
        if spec is None:
            raise UsageError(f"{ROOT / name}: not found, though bench is in {ROOT}; install bench again")
        origin = Path(spec.origin) if spec.origin else Path(next(iter(spec.submodule_search_locations or []), name))
        if origin.resolve() != ROOT / name / "__init__.py":
            raise UsageError(_remedy(name, origin))


def set_environment() -> None:
    """Set the variables that libraries read when they are loaded, in the command line and in a job of a cluster."""
    # Waiting threads of OpenMP spin; with the default spin count, another busy process on the machine makes decoding
    # ten times slower. This shorter spin is as fast on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # Child processes do not import from the current directory either.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    # transformers would fetch and run compiled code from the hub where the package `kernels` is installed.
    os.environ.setdefault("USE_HUB_KERNELS", "NO")


def child_environment() -> dict[str, str]:
    """Return the environment of a child process that imports what this one can, and nothing else.

    Python would otherwise also look in the working directory, which may hold anybody's files.
    """
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}


def _remedy(name: str, origin: Path) -> str:
    folder = origin.parent.parent if origin.name == "__init__.py" else origin.parent
    return (
        f"{origin}: Python would import this as `{name}`, in place of bench's own package {ROOT / name}; take {folder} "
        "off PYTHONPATH, uninstall the package that it belongs to, or rename it"
    )
