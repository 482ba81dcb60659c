"""Cache of folders that are slow to build. An entry is complete or absent, and one process at a time builds it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.cache import VARIABLE
from bench.cache import folder as cache_folder
from bench.errors import BenchError
from bench.models.checkpoint import file_sha256
from bench.models.interface import Progress
from bench.records.files import sync

MANIFEST = "manifest.json"
FULL = {errno.ENOSPC, errno.EDQUOT}
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def entry(key: str) -> Path:
    """Return the path of the entry of this key, whether or not it exists."""
    return cache_folder("models") / key


def intact(folder: Path, *, contents: bool) -> bool:
    """Return whether a folder has every file of its manifest, with the recorded sizes.

    The manifest is a JSON file: `{"files": {"config.json": {"size": 861, "sha256": "..."}, ...}}`.

    Args:
        folder: Folder of the entry.
        contents: Whether to compare the sha256 of each file too.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(
            (folder / name).stat().st_size == expected["size"]
            and (not contents or file_sha256(folder / name) == expected["sha256"])
            for name, expected in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def obtain(key: str, build: Callable[[Path], None], progress: Progress, *, needs: int = 0) -> Path:
    """Return the folder of this key, and build it first if it is absent or damaged.

    The build writes to a temporary folder, which is renamed when all files are on disk. A second process waits for the
    first one and uses its result.

    Args:
        key: Name of the entry; must change with anything that changes the content.
        build: Function that fills the empty folder it is given.
        progress: Reports a wait for another process.
        needs: Peak disk usage of the build, in bytes.

    Raises:
        BenchError: If the cache cannot be written. The message names the folder and the environment variable that
            changes it.
    """
    folder = entry(key)
    if intact(folder, contents=True):
        return folder
    with _explained(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{key}.lock"), progress):
            if not intact(folder, contents=True):
                _check_space(folder.parent, needs)
                _replace(folder, build)
    return folder


def _replace(folder: Path, build: Callable[[Path], None]) -> None:
    # We hold the lock, so any temporary folder belongs to a process that has died.
    for abandoned in folder.parent.glob(f".{folder.name}.*.new"):
        shutil.rmtree(abandoned, ignore_errors=True)
    work = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    work.mkdir()
    try:
        build(work)
        names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
        files = {n: {"size": (work / n).stat().st_size, "sha256": file_sha256(work / n)} for n in names}
        (work / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")
        for name in [*names, MANIFEST]:
            # safetensors makes files readable by their owner only, but a cache may be shared.
            (work / name).chmod((work / MANIFEST).stat().st_mode)
            sync(work / name)
        sync(work)
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for another process that prepares this model", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_space(folder: Path, needs: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needs:
        raise OSError(errno.ENOSPC, f"{needs / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL | UNWRITABLE:
            raise
        trouble = "is on a full disk" if error.errno in FULL else "cannot be written"
        remedy = f"make room, or name another folder in {VARIABLE}"
        raise BenchError(f"the model cache {folder} {trouble} ({error.strerror}); {remedy}") from error
