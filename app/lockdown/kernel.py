"""Raw system calls and prctl by ctypes; MissingError names the kernel feature that is missing."""

import ctypes
import functools
import os
import platform

SUPPORTED_MACHINES = ("x86_64", "aarch64")


class MissingError(OSError):
    """The kernel refused a step of the lockdown."""


def machine() -> str:
    return platform.machine()


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def call(step: str, number: int, *arguments: object) -> int:
    """One raw system call; `step` names it in the error."""
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise MissingError(error, f"{step}: {os.strerror(error)}")
    return result


def process_control(step: str, option: int, value: int) -> None:
    """prctl with one value."""
    zero = ctypes.c_ulong(0)
    if _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) < 0:
        error = ctypes.get_errno()
        raise MissingError(error, f"{step}: {os.strerror(error)}")


def die_with_parent() -> None:
    process_control("die with the parent", 1, 9)


def forbid_new_privileges() -> None:
    process_control("no new privileges", 38, 1)


def hide_from_debuggers() -> None:
    """Close /proc/PID/mem, environ and ptrace of this process to others of the same user."""
    process_control("hide from debuggers", 4, 0)
