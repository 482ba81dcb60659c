"""The two Linux calls that Python's standard library lacks: `prctl` and, for Landlock, `syscall`."""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int | bytes) -> None:
    """Changes an attribute of this process.

    Raises:
        OSError: The kernel refused.
    """
    padded = [*arguments, 0, 0, 0, 0][:4]
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_ulong(a) for a in padded]
    if _libc.prctl(ctypes.c_int(option), *words) != 0:
        raise _error(f"prctl({option})")


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Makes a system call by number; returns what it returns.

    Raises:
        OSError: The kernel refused.
    """
    words = [ctypes.c_char_p(a) if isinstance(a, bytes | None) else ctypes.c_long(a) for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _error(f"system call {number}")
    return result


def drop_capabilities() -> None:
    """Takes what is left of root's powers from this process, if it runs as root; its files stay its own.

    Raises:
        OSError: The kernel refused.
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, bytes(24)) != 0:
        raise _error("capset")


def _error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")
