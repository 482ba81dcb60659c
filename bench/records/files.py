"""Atomic writes. A reader sees either the old file or the complete new one, and a failed write raises."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError, os_reason

TEMPORARY = ".tmp-"


class WriteFailed(BenchError):
    """Error for a file or folder that cannot be written."""

    def __init__(self, path: Path, error: OSError) -> None:
        file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else path
        cause = f"{file}: " if file in path.parents else ""  # a part of the path is at fault
        super().__init__(f"cannot write {path}: {cause}{os_reason(error, '--output')}")


def read(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        BenchError: If it cannot be read. The message names it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {os_reason(error)}") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content atomically. The new content is on disk (fsync) when this returns.

    Raises:
        WriteFailed: If the folder is not writable or the disk is full. The old content is kept.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{TEMPORARY}{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise WriteFailed(path, error) from error


@contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder. It replaces `path` when the block ends without an error.

    Raises:
        WriteFailed: If the folder cannot be written. The old content of `path` is kept.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name}."))
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        new.chmod(0o755)
        yield new
        for file in new.rglob("*"):
            if file.is_file():
                sync(file)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        sync(path.parent)
    except OSError as error:
        raise WriteFailed(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        BenchError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {os_reason(error)}") from error


def folder_digest(folder: Path) -> str:
    """Return a sha256 over the names and bytes of all files in a folder and the folders in it.

    Raises:
        BenchError: If one is a symbolic link, whose target may be outside the folder.
    """
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise BenchError(f"{path}: a symbolic link; an artifact holds files alone. Remove it, or repeat the run")
        if path.is_file():
            state.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    return state.hexdigest()


def share(kept: Path, copy: Path) -> None:
    """Replace a file by a hard link to another one if both have the same bytes, so that the disk holds them once.

    Both files stay if their bytes differ, or if the file system has no hard links.

    Args:
        kept: File that stays.
        copy: File that is replaced.
    """
    if not filecmp.cmp(kept, copy, shallow=False):
        return
    link = copy.with_name(f"{TEMPORARY}{copy.name}")
    try:
        link.hardlink_to(kept)
    except OSError:
        return
    link.replace(copy)


def sweep(folder: Path) -> None:
    """Remove temporary files of a killed process. No other process may be writing to the folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to disk (fsync). After a rename, this makes the rename survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
