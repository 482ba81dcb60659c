"""Seccomp filter that allows only the system calls for computing, waiting and threads."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from . import linux, syscalls

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _DENY, _NO_SUCH_CALL, _KILL = (
    0x7FFF0000,
    0x00050000 | errno.EPERM,
    0x00050000 | errno.ENOSYS,
    0x80000000,
)
# Classic BPF: load a word of struct seccomp_data, mask it, jump if equal, return.
_LOAD, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_LOW, _HIGH = 0, 4  # offsets of an argument's words; all machines of AUDIT_ARCH are little-endian
_WHOLE = 0xFFFFFFFF

_CLONE_THREAD = 0x00010000
# CLONE_PTRACE, CLONE_UNTRACED and CLONE_NEW*: a thread must not get its own namespace, which root could request.
_CLONE_REFUSED = 0x00002000 | 0x00800000 | 0x7E020000
_O_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | 0o20000000  # the last is O_TMPFILE's own bit

# (argument, word, mask, values): a call is allowed if, in each condition, (argument & mask) is one of the values.
Condition = tuple[int, int, int, tuple[int, ...]]
_CONDITIONS: dict[str, list[Condition]] = {
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
    "ioctl": [(1, _LOW, _WHOLE, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451))],
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC. F_SETOWN and F_SETSIG are denied, because
    # together they make the kernel send any signal to any process of the same user.
    "fcntl": [(1, _LOW, _WHOLE, (0, 1, 2, 3, 4, 1030))],
    "clone": [(0, _LOW, _CLONE_THREAD | _CLONE_REFUSED, (_CLONE_THREAD,))],
    # Reading the process's own limits.
    "prlimit64": [(0, _LOW, _WHOLE, (0,)), (2, _LOW, _WHOLE, (0,)), (2, _HIGH, _WHOLE, (0,))],
    # AF_UNIX, SOCK_STREAM, and sending without an address: a socket pair can only communicate with itself.
    "socketpair": [(0, _LOW, _WHOLE, (1,)), (1, _LOW, 0xF, (1,))],
    "sendto": [(4, _LOW, _WHOLE, (0,)), (4, _HIGH, _WHOLE, (0,))],
}
_READ_ONLY: dict[str, list[Condition]] = {
    "open": [(1, _LOW, _O_WRITING, (os.O_RDONLY,))],
    "openat": [(2, _LOW, _O_WRITING, (os.O_RDONLY,))],
}


def program(machine: str, *, read_only: bool) -> bytes:
    """Return the filter as BPF code.

    Args:
        machine: A key of `syscalls.AUDIT_ARCH`.
        read_only: Whether to deny opening files for writing too; needed if Landlock does not restrict files.
    """
    conditions = _CONDITIONS | (_READ_ONLY if read_only else {})
    code = [
        _instruction(_LOAD, _ARCH),
        _instruction(_JUMP_EQUAL, syscalls.AUDIT_ARCH[machine], equal=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    for name in syscalls.NUMBERS:
        number = syscalls.number(name, machine)
        if number is None:
            continue
        # A filter cannot see the flags of clone3. The C library falls back to clone if clone3 does not exist.
        last = _NO_SUCH_CALL if name == "clone3" else _ALLOW
        body = [line for condition in conditions.get(name, []) for line in _require(condition)]
        body.append(_instruction(_RETURN, last))
        code += [_instruction(_JUMP_EQUAL, number, unequal=len(body)), *body]
    return b"".join([*code, _instruction(_RETURN, _DENY)])


class Prepared(NamedTuple):
    """Filter in the form that the kernel takes: `struct sock_fprog`, and the code that it points to."""

    header: bytes
    code: ctypes.Array[ctypes.c_char]


def prepare(code: bytes) -> Prepared:
    """Return the filter in the form that the kernel takes."""
    buffer = ctypes.create_string_buffer(code, len(code))
    # A count, padding, a pointer.
    return Prepared(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)), buffer)


def install(prepared: Prepared) -> None:
    """Apply the filter to this process permanently. `no_new_privs` must be set.

    Raises:
        OSError: If the kernel refuses.
    """
    linux.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, prepared.header)


def _instruction(code: int, operand: int, *, equal: int = 0, unequal: int = 0) -> bytes:
    return struct.pack("=HBBI", code, equal, unequal, operand)


def _require(condition: Condition) -> list[bytes]:
    argument, word, mask, values = condition
    return [
        _instruction(_LOAD, _ARGUMENTS + 8 * argument + word),
        _instruction(_AND, mask),
        *(_instruction(_JUMP_EQUAL, value, equal=len(values) - i) for i, value in enumerate(values)),
        _instruction(_RETURN, _DENY),
    ]
