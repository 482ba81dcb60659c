"""Landlock rules that let a process read only the standard library, shared libraries and a few system files."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from . import linux
from .readable import readable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_VERSION = 1  # flag of landlock_create_ruleset: return the ABI version

_REASONS = {
    errno.ENOSYS: "this kernel is older than 5.13 or built without Landlock",
    errno.EOPNOTSUPP: "Landlock is built into this kernel but not among its lsm= boot parameters",
    errno.EPERM: "the container's seccomp profile denies Landlock",
}

# LANDLOCK_ACCESS_FS_* of <linux/landlock.h>.
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
# Number of file access rights in ABI versions 1, 2, 3, 4 and 5.
_FILE_RIGHTS = (13, 14, 15, 15, 16)
_TCP, _SIGNALS_AND_ABSTRACT_SOCKETS = 0b11, 0b11


def ruleset(folders: Iterable[Path] = ()) -> int:
    """Create the ruleset, and return its file descriptor for `restrict`.

    It denies everything that this kernel's version can restrict, except access to the files of `readable`.

    Args:
        folders: More folders, or single files, that may be read.

    Raises:
        OSError: If the kernel is older than 5.13 (ENOSYS), or Landlock is disabled (EOPNOTSUPP).
    """
    try:
        version = linux.syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError as error:
        raise OSError(error.errno, _REASONS.get(error.errno or 0, str(error))) from None
    handled = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1
    attributes = struct.pack(
        "=QQQ",
        handled,
        _TCP if version >= 4 else 0,
        _SIGNALS_AND_ABSTRACT_SOCKETS if version >= 6 else 0,
    )
    # An older kernel accepts a longer structure if the fields that it does not know are zero.
    rules = linux.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    os.set_inheritable(rules, False)
    for path, whole in (*readable(), *((path, True) for path in folders)):
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("=Qi", _rights(path, whole) & handled, descriptor)
        linux.syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0)
        os.close(descriptor)
    return rules


def restrict(rules: int) -> None:
    """Apply a ruleset to this process permanently. `no_new_privs` must be set.

    Raises:
        OSError: If the kernel refuses.
    """
    linux.syscall(_RESTRICT_SELF, rules, 0)


def _rights(path: Path, whole: bool) -> int:
    if path == Path(os.devnull):
        return _READ_FILE | _WRITE_FILE | _TRUNCATE
    if not path.is_dir():
        return _READ_FILE
    return _READ_FILE | _READ_DIR if whole else _READ_DIR
