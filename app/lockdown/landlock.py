"""Landlock rules: restrict the process to named files and folders."""

import ctypes
import os
import struct
from collections.abc import Iterable

from app.lockdown.kernel import MissingError, call, forbid_new_privileges

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every machine
_WRITE, _READ, _LIST, _REMOVE_FOLDER, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_FOLDER, _MAKE_FILE, _MOVE, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_FIRST_RIGHTS = (1 << 13) - 1  # what version 1 governs
_OWN_FOLDER = _WRITE | _READ | _LIST | _REMOVE_FOLDER | _REMOVE_FILE | _MAKE_FOLDER | _MAKE_FILE | _MOVE
_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def version() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    try:
        return call("Landlock version", _CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except MissingError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow reading below `readable`, everything ordinary below `writable`, and nothing else."""
    known = version()
    if known == 0:
        raise MissingError(38, "Landlock is not offered by this kernel")
    handled = _FIRST_RIGHTS | (_MOVE if known >= 2 else 0) | (_TRUNCATE if known >= 3 else 0)
    handled |= 1 << 15 if known >= 5 else 0  # ioctl on devices
    attributes = struct.pack(
        "QQQ", handled, _TCP if known >= 4 else 0, _ABSTRACT_SOCKETS_AND_SIGNALS if known >= 6 else 0
    )
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    rules = call("Landlock rules", _CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    for path in readable:
        _permit(rules, path, handled & (_READ | _LIST))
    for path in writable:
        _permit(rules, path, handled & (_OWN_FOLDER | _TRUNCATE))
    forbid_new_privileges()
    call("Landlock", _RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def _permit(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - pathlib is slow to start and this runs for each session
            rights &= _READ | _WRITE | _TRUNCATE
        rule = struct.pack("=Qi", rights, place)
        call(f"Landlock rule for {path}", _ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)
