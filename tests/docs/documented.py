"""Code blocks of the documentation, and a terminal that runs their commands in this process."""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from bench.cli import main

ROOT = Path(__file__).parents[2]
HOME = "/home/me"
"""What outputs show in place of the temporary folder."""
WIDTH = 80
"""Columns of the terminal."""
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
FENCED = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True)
class Block:
    """Fenced code block of a page.

    Attributes:
        language: Its language, such as `sh`; empty if it names none.
        body: Its text.
        start: Position in the page where the text begins.
        end: Position where it ends.
    """

    language: str
    body: str
    start: int
    end: int


def blocks(page: str) -> list[Block]:
    """Return the fenced code blocks of a page, in order."""
    return [Block(found["language"], found["body"], *found.span("body")) for found in FENCED.finditer(page)]


def files(page: str) -> dict[str, str]:
    """Return the Python files of a page: blocks whose first line is a comment with the file's name."""
    found = [(FILE.match(block.body), block.body) for block in blocks(page) if block.language == "python"]
    return {name[1]: body[name.end() :] for name, body in found if name}


def lines(body: str) -> list[str]:
    """Return the commands of a shell block. A backslash at the end of a line joins it with the next one."""
    return [line.strip() for line in re.sub(r"\\\n\s*", "", body).splitlines() if line.strip()]


class Screen(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


@contextlib.contextmanager
def workplace(contents: dict[str, str]) -> Iterator[Path]:
    """Make a temporary folder with files the current directory, and let Python import from it, as PYTHONPATH=. does."""
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.chdir(name),
        mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH), "LINES": "40", "NO_COLOR": "1"}),
        mock.patch.object(sys, "path", [name, *sys.path]),
    ):
        for file, content in contents.items():
            Path(file).write_text(content)
        yield Path(name)


def run(command: str) -> tuple[int, str]:
    """Run one line of a shell block, with patterns of file names expanded.

    Returns:
        The exit status, and what a person sees: the output, and the errors of a command that failed.

    Raises:
        ValueError: If the line calls anything but `bench`, `python FILE` and `export PYTHONPATH=.`.
    """
    words = shlex.split(command, comments=True)
    program, *arguments = [path for word in words for path in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
    shown, errors, status = Screen(), io.StringIO(), 0
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
        if program == "bench":
            try:
                main(arguments)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
        elif program == "python" and len(arguments) == 1:
            runpy.run_path(arguments[0], run_name="__main__")
        elif words != ["export", "PYTHONPATH=."]:  # `workplace` does that
            raise ValueError(f"{command}: expected bench, python FILE or export PYTHONPATH=.")
    text = shown.getvalue() + (errors.getvalue() if status else "")
    text = ESCAPES.sub("", text.replace(str(Path.cwd()), HOME))
    return status, "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())
