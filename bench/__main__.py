"""Run the command line as `python -m bench`."""

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).parent.parent)


def leave_current_directory() -> None:
    """Take the current directory off the path, where `python -m` puts it first, unless it holds this very package.

    It stays where PYTHONPATH names it. A stranger's folder `tasks` in it would otherwise be imported in place of ours.
    """
    current = os.getcwd()  # noqa: PTH109  # as Python wrote it
    if not sys.flags.safe_path and sys.path[0] == current != ROOT:
        del sys.path[0]


if __name__ == "__main__":
    leave_current_directory()

    from bench.cli import main

    main()
