"""Paths on the command line. A path that cannot be used is an error that names a similar one."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from bench.errors import UsageError, shown


class Place(click.Path):
    """Path of a file or folder.

    Args:
        exists: Whether it must exist.
        file_okay: Whether it may be a file.
        dir_okay: Whether it may be a folder.
        path_type: Type of the converted value.
    """

    def __init__(
        self,
        *,
        exists: bool = False,
        file_okay: bool = True,
        dir_okay: bool = True,
        path_type: type[Path | str] = Path,
    ) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=path_type)
        kinds = {(True, False): "a file", (False, True): "a folder"}
        self._expected = kinds.get((file_okay, dir_okay), "a file or folder")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            click.BadParameter: If it is empty, missing though it must exist, or of the other kind.
        """
        text = os.fspath(value)
        if not text:
            self.fail(f"the path is empty; expected {self._expected}.", param, ctx)
        if "\0" in text:
            self.fail(f"{shown(text)}: expected {self._expected}; a path cannot hold a null character.", param, ctx)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{text}: {self._problem(Path(text)) or error.message}", param, ctx)

    def _problem(self, path: Path) -> str | None:
        """Return what is wrong with a path; None if it exists and is of the right kind."""
        if path.is_symlink() and not path.exists():
            return f"a link to {path.readlink()}, which does not exist."
        if not path.exists():
            return f"there is no such file or folder{_similar(path)}"
        if path.is_dir() and self._expected == "a file":
            return "a folder; expected a file."
        if path.is_file() and self._expected == "a folder":
            inside = (path.parent / "config.json").exists()
            return "a file; expected a folder" + (f"; did you mean {path.parent}?" if inside else ".")
        return None


def check_new(output: Path) -> None:
    """Check that a folder can be created: that there is nothing of this name, or an empty folder.

    Raises:
        UsageError: If there is.
    """
    if output.exists() and (output.is_file() or any(output.iterdir())):
        what = "is a file" if output.is_file() else "exists and is not empty"
        raise UsageError(f"--output {output}: {what}; name a new folder")


def _similar(path: Path) -> str:
    """Suggest a path in place of one that does not exist: an existing folder above it, or one of a similar name."""
    above = next((each for each in path.parents if each.is_dir()), Path())
    missing = path.relative_to(above).parts[0] if path.parts else ""
    try:
        near = get_close_matches(missing, (each.name for each in above.iterdir()), n=1)
    except OSError:
        near = []
    if near:
        return f"; did you mean {above / near[0]}?"
    return f" in {above.absolute()}."
