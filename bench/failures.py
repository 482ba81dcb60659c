"""Description of an unexpected error in one line, with the place in somebody's own code that it comes from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from traceback import FrameSummary

from bench.imports import PACKAGES, ROOT


def located(error: BaseException) -> str:
    """Return an error with its kind, its message, and the file and line that it comes from.

    The line is the last one of the traceback that lies neither in our packages nor in an installed library: a mistake
    in a method or a task of one's own is there, and not where a library noticed it. Without such a line it is the last
    one. The file has no folder, because the text gets into records, which are published.

    Example: `ZeroDivisionError: float division by zero (broken.py, line 11, in adapt)`.
    """
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    frame = next((each for each in reversed(frames) if _is_outside(each)), frames[-1])
    return f"{text} ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})"


def _is_outside(frame: FrameSummary) -> bool:
    """Return whether a frame is in a file that is neither ours nor an installed library's."""
    path = Path(frame.filename)
    if not path.is_absolute():  # such as <frozen importlib._bootstrap>
        return False
    ours = [ROOT / name for name in PACKAGES]
    libraries = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not any(path.is_relative_to(folder) for folder in ours + libraries)
