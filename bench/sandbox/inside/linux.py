"""Linux calls that Python's standard library lacks: `prctl`, `capset`, and `syscall` for Landlock."""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
# Found here, and not in each forked process.
_prctl, _syscall, _capset = _libc.prctl, _libc.syscall, _libc.capset


def prctl(option: int, *arguments: int | bytes) -> None:
    """Change an attribute of this process.

    Raises:
        OSError: If the kernel refuses.
    """
    padded = [*arguments, 0, 0, 0, 0][:4]
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_ulong(a) for a in padded]
    if _prctl(ctypes.c_int(option), *words) != 0:
        raise _error(f"prctl({option})")


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call by number, and return its result.

    Raises:
        OSError: If the kernel refuses.
    """
    words = [ctypes.c_char_p(a) if isinstance(a, bytes | None) else ctypes.c_long(a) for a in arguments]
    result: int = _syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _error(f"system call {number}")
    return result


def drop_capabilities() -> None:
    """Drop all capabilities of this process, in case it runs as root. It can still access root's files.

    Raises:
        OSError: If the kernel refuses.
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _capset(header, bytes(24)) != 0:
        raise _error("capset")


def _error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")
