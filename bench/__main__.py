"""Run the command line, as `bench` or as `python -m bench`."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # no other module is imported yet


def leave_current_directory() -> None:
    """Let nothing in the current directory take the place of a package of ours, or of Python's or a library's.

    A stranger's folder may hold `tasks/`, or `json.py`. `python -m` puts the current directory first on the path, from
    which it is removed, unless it holds this very package. A relative component of PYTHONPATH, such as `.` or an empty
    one, depends on it. It moves to the end, where a user's own methods and tasks are still found. Child processes get
    this path, too.

    Raises:
        FileNotFoundError: If the current directory was removed.
    """
    current = os.getcwd()  # noqa: PTH109  # as Python wrote it
    if not sys.flags.safe_path and sys.path[0] == current != ROOT:
        del sys.path[0]
    given = os.environ.get("PYTHONPATH", "")
    if sys.flags.ignore_environment or not given:
        return
    components = given.split(os.pathsep)
    named = {component for component in components if os.path.isabs(component)}  # noqa: PTH117
    for component in components:
        folder = os.path.abspath(component)  # noqa: PTH100
        if component not in named and folder in sys.path and folder not in {ROOT, *named}:
            sys.path.remove(folder)
            sys.path.append(folder)
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))


def main() -> None:
    """Run the command line, without imports from the current directory."""
    try:
        leave_current_directory()
    except FileNotFoundError:
        sys.exit("bench: the current directory was removed; change to one that exists")

    from bench.cli import main as run

    run()


if __name__ == "__main__":
    main()
