"""Mount namespace that shows a process only the files that a program may read.

Landlock denies opening other files, but a program could still ask whether they exist, how long they are, and when they
were changed. Here they do not exist.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from . import linux
from .readable import readable

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _RECURSIVE, _BIND = 1 << 18, 1 << 14, 1 << 12
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_ROOT = "/proc"  # a folder that every Linux has, and that no program may read
_LINKS = ("/lib", "/lib64", "/usr/lib64")
_EMPTY = ("/tmp", "/var/tmp", "/dev/shm")

_libc = ctypes.CDLL(None, use_errno=True)


def enter(folders: Iterable[Path] = ()) -> None:
    """Move this process, which must have one thread, into a namespace with the files of `readable` alone.

    A process without the privilege to do so gets a user namespace first, where it has that privilege.

    Args:
        folders: More folders, or single files, that are shown.

    Raises:
        OSError: If the system refuses. The process may be in a namespace of its own then, and must end.
    """
    try:
        _call("unshare", _NEW_MOUNTS)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        _call("unshare", _NEW_MOUNTS | _NEW_USER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(text)
    _mount(None, "/", None, _PRIVATE | _RECURSIVE)
    shown = [*readable(), *((path, True) for path in folders)]
    _mount("tmpfs", _ROOT, "tmpfs", 0, "size=4m,mode=755")
    for link in filter(Path.is_symlink, map(Path, _LINKS)):
        target = Path(f"{_ROOT}{link}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(link.readlink())
    for path, whole in shown:
        _show(path, whole)
    for name in _EMPTY:
        Path(_ROOT + name).mkdir(parents=True, exist_ok=True)
    os.chdir(_ROOT)
    linux.syscall(_PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def _show(path: Path, whole: bool) -> None:
    """Show a file or folder at the same place of the new root; if not whole, an empty folder for its shown entries."""
    target = Path(f"{_ROOT}{path}")
    if target.exists() or target.is_symlink() or not path.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and len(path.readlink().parts) == 1:
        target.symlink_to(path.readlink())  # to an entry of the same folder, which is shown, too
        return
    if path.is_dir():
        target.mkdir()
    else:
        target.touch()
    if whole:
        _mount(str(path), str(target), None, _BIND | _RECURSIVE)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _call(
        "mount",
        *(text and text.encode() for text in (source, target, kind)),
        ctypes.c_ulong(flags),
        data and data.encode(),
    )


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
