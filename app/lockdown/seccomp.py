"""Seccomp BPF filter: allow-list of system calls for a sandbox child; all others get EPERM."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from app.lockdown import syscalls
from app.lockdown.kernel import call, forbid_new_privileges, machine

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_AUDIT_MACHINE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_X32_CALLS = 0x40000000

_TERMINAL_AND_READY = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Neither F_SETOWN nor F_SETSIG: with them the kernel itself signals other processes.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)
_NAMES_AND_DUMPABLE = (3, 15, 16, 0x53564D41)


def restrict(with_files: bool, guard_truncation: bool) -> None:
    """Install the filter. Without files nothing can be opened at all.

    `guard_truncation` closes what Landlock before version 3 leaves open: emptying a file without writing.
    """
    program = _program(with_files, guard_truncation)
    steps = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(steps))
    forbid_new_privileges()
    call("seccomp", _SECCOMP[machine()], ctypes.c_uint(1), ctypes.c_uint(0), header)


def _program(with_files: bool, guard_truncation: bool) -> bytes:
    refused = [_step(_RETURN, _REFUSE | errno.EPERM)]
    program = [
        _step(_LOAD, _MACHINE_AT),
        _step(_EQUAL, _AUDIT_MACHINE[machine()], 1, 0),
        _step(_RETURN, _KILL),  # a 32-bit call would be looked up in another table
        _step(_LOAD, _NUMBER_AT),
    ]
    if machine() == "x86_64":
        program += [_step(_AT_LEAST, _X32_CALLS, 0, 1), _step(_RETURN, _KILL)]
    for number in _plain_numbers(with_files, guard_truncation):
        program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    for name, body in _guarded(with_files, guard_truncation).items():
        guarded = _number(name)
        if guarded is not None:
            program += [_step(_EQUAL, guarded, 0, len(body)), *body]
    return b"".join(program + refused)


def _plain_numbers(with_files: bool, guard_truncation: bool) -> Iterable[int]:
    tables = [syscalls.DESCRIPTORS, syscalls.MEMORY, syscalls.PROCESS, syscalls.SIGNALS, syscalls.TIME]
    if with_files:
        tables.append(syscalls.PATHS)
    guarded = {"open", "openat", "truncate"} if guard_truncation else set()
    for table in tables:
        for name in table:
            number = _number(name)
            if number is not None and name not in guarded:
                yield number


def _guarded(with_files: bool, guard_truncation: bool) -> dict[str, list[bytes]]:
    """Calls that are allowed only with certain arguments."""
    own = (0, os.getpid())
    rules = {
        "clone3": [_step(_RETURN, _REFUSE | errno.ENOSYS)],  # so that libc falls back to clone, which is refused
        "fcntl": _only(1, _FCNTL_COMMANDS),
        "ioctl": _only(1, _TERMINAL_AND_READY, errno.ENOTTY),
        "prctl": _only(0, _NAMES_AND_DUMPABLE),
        "kill": _only(0, own[1:]),
        "tgkill": _only(0, own[1:]),
        "sched_getaffinity": _only(0, own),
        "prlimit64": _read_own_limits(),
    }
    if with_files and guard_truncation:
        rules["openat"] = _no_truncation_by_readers()
    return rules


def _only(argument: int, values: Iterable[int], otherwise: int = errno.EPERM) -> list[bytes]:
    body = [_step(_LOAD, _ARGUMENTS_AT + 8 * argument)]
    for value in values:
        body += [_step(_EQUAL, value, 0, 1), _step(_RETURN, _ALLOW)]
    return [*body, _step(_RETURN, _REFUSE | otherwise)]


def _read_own_limits() -> list[bytes]:
    """prlimit64 may ask about this process (pid 0) and set nothing (the new limit is NULL)."""
    zero_at = (_ARGUMENTS_AT, _ARGUMENTS_AT + 16, _ARGUMENTS_AT + 20)
    body: list[bytes] = []
    for place in zero_at:
        body += [_step(_LOAD, place), _step(_EQUAL, 0, 1, 0), _step(_RETURN, _REFUSE | errno.EPERM)]
    return [*body, _step(_RETURN, _ALLOW)]


def _no_truncation_by_readers() -> list[bytes]:
    """openat may not carry O_TRUNC together with read-only access."""
    return [
        _step(_LOAD, _ARGUMENTS_AT + 16),
        _step(_ANY_BIT, os.O_TRUNC, 1, 0),
        _step(_RETURN, _ALLOW),
        _step(_ANY_BIT, os.O_ACCMODE, 1, 0),
        _step(_RETURN, _REFUSE | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]


def _number(name: str) -> int | None:
    numbers = syscalls.TABLES[name]
    return numbers[0 if machine() == "x86_64" else 1]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value & 0xFFFFFFFF)
