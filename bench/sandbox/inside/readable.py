"""Files that a program may read: the standard library, shared libraries and a few system files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = ("site-packages", "dist-packages")


def readable() -> Iterator[tuple[Path, bool]]:
    """Yield the existing paths that a program may open, and whether all that lies below a folder may be read, too.

    Packages installed below the standard library may contain answers, so its entries are listed one by one.
    """
    for folder in map(Path, sys.path):
        if os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir would raise for one that this user cannot look into
            yield folder, False
            yield from ((entry, True) for entry in _entries(folder) if entry.name not in _PACKAGES)
    multiarch = f"{os.uname().machine}-linux-gnu"
    libraries = ("/lib64", "/usr/lib64", f"/lib/{multiarch}", f"/usr/lib/{multiarch}", f"{sys.base_prefix}/lib")
    for library in dict.fromkeys(map(os.path.realpath, libraries)):  # /lib is often a link to /usr/lib
        yield from ((entry, True) for entry in _entries(Path(library)) if ".so" in entry.name and entry.is_file())
    for name in ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom", "/dev/null"):
        if os.path.exists(name):  # noqa: PTH110 - see above
            yield Path(name), True


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
