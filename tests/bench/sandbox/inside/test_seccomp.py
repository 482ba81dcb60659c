"""Decisions of the seccomp filter for both architectures, found by interpreting its code."""

import errno
import struct

import pytest

from bench.sandbox.inside import seccomp, syscalls

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x80000000
# Calls that must be denied, x86-64 and AArch64.
DENIED = {
    "execve": (59, 221),
    "fork": (57, None),
    "vfork": (58, None),
    "socket": (41, 198),
    "connect": (42, 203),
    "sendmsg": (46, 211),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "ptrace": (101, 117),
    "process_vm_writev": (311, 271),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "unlinkat": (263, 35),
    "setrlimit": (160, 164),
    "prctl": (157, 167),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "pidfd_open": (434, 434),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
}


def run(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """Return the decision of a filter, by interpreting its loads, masks, equality jumps and returns."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    at, word = 0, 0
    while True:
        code, equal, unequal, operand = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (word,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            word &= operand
        elif code == 0x15:
            at += equal if word == operand else unequal
        else:
            assert code == 0x06
            return int(operand)


@pytest.fixture(params=syscalls.AUDIT_ARCH)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_only_listed_calls_are_allowed(machine: str) -> None:
    program = seccomp.program(machine, read_only=False)
    arch = syscalls.AUDIT_ARCH[machine]
    listed = {syscalls.number(name, machine) for name in syscalls.NUMBERS}
    for number in (*range(600), 1 << 30, (1 << 30) | 1, 0xFFFFFFFF):
        if number not in listed:
            assert run(program, number, arch) == EPERM
    for name in ("read", "write", "mmap", "futex", "exit_group"):
        assert run(program, syscalls.number(name, machine) or 0, arch) == ALLOW


def test_dangerous_calls_are_denied(machine: str) -> None:
    program = seccomp.program(machine, read_only=False)
    for numbers in DENIED.values():
        number = numbers[list(syscalls.AUDIT_ARCH).index(machine)]
        if number is not None:
            assert run(program, number, syscalls.AUDIT_ARCH[machine]) == EPERM


def test_another_instruction_set_is_killed(machine: str) -> None:
    program = seccomp.program(machine, read_only=False)
    assert run(program, 0, 0x40000003) == KILL


@pytest.mark.parametrize(
    ("name", "allowed", "denied"),
    [
        ("clone", [(0x3D0F00,)], [(0x11,), (0x3D0F00 | 0x40000000,), (0x01200011,)]),
        ("fcntl", [(3, 3), (3, 1030, 3)], [(3, 8, 1), (3, 10, 9), (3, 15, 0), (3, 1033, 0)]),
        ("ioctl", [(0, 0x5401)], [(0, 0x5412), (0, 0x541C), (3, 0x8902)]),
        ("prlimit64", [(0, 9, 0, 5)], [(0, 9, 5, 0), (7, 9, 0, 5), (0, 9, 1 << 32, 0)]),
        ("socketpair", [(1, 1), (1, 0x80801)], [(1, 2), (2, 1)]),
        ("sendto", [(3, 5, 1, 0, 0, 0)], [(3, 5, 1, 0, 77, 16), (3, 5, 1, 0, 1 << 40, 16)]),
    ],
)
def test_some_calls_are_allowed_depending_on_their_arguments(
    machine: str, name: str, allowed: list[tuple[int, ...]], denied: list[tuple[int, ...]]
) -> None:
    program = seccomp.program(machine, read_only=False)
    number = syscalls.number(name, machine)
    assert number is not None
    for arguments in allowed:
        assert run(program, number, syscalls.AUDIT_ARCH[machine], arguments) == ALLOW
    for arguments in denied:
        assert run(program, number, syscalls.AUDIT_ARCH[machine], arguments) == EPERM


def test_without_landlock_files_can_be_opened_for_reading_only(machine: str) -> None:
    number, arch = syscalls.number("openat", machine) or 0, syscalls.AUDIT_ARCH[machine]
    strict, loose = (seccomp.program(machine, read_only=read_only) for read_only in (True, False))
    assert run(strict, number, arch, (0, 0, 0o2000000)) == ALLOW
    for flags in (1, 2, 3, 0o100, 0o1000, 0o20200000, 0o102):
        assert run(strict, number, arch, (0, 0, flags)) == EPERM
        assert run(loose, number, arch, (0, 0, flags)) == ALLOW


def test_clone3_does_not_exist(machine: str) -> None:
    program = seccomp.program(machine, read_only=False)
    assert run(program, 435, syscalls.AUDIT_ARCH[machine]) == ENOSYS
