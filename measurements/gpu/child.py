"""Process of one section: `python -m measurements.gpu.child MODULE:FUNCTION ARGUMENTS OUTCOME`.

It imports no more than its section does, and writes its outcome as JSON.
"""

from __future__ import annotations

import json
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.records.files import write_atomically
from measurements.gpu.schema import Found, Skipped
from measurements.gpu.shapes import Setup


def outcome(target: str, setup: Setup) -> dict[str, Any]:
    """Return what a section found, `skipped` with the reason, or `error` with the message."""
    module, _, name = target.partition(":")
    try:
        found: Found = getattr(import_module(module), name)(setup)
        return found.model_dump()
    except Skipped as error:
        return {"skipped": str(error)}
    except Exception as error:  # a section fails alone, whatever it raises
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    target, arguments, path = sys.argv[1:]
    write_atomically(Path(path), json.dumps(outcome(target, Setup(**json.loads(arguments)))))


if __name__ == "__main__":
    main()
