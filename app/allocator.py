"""The C library's allocator (glibc): fewer arenas, and freed memory returned to the system."""

import ctypes
import sys
from typing import Any

ARENAS = 4  # glibc takes eight for each core, and each keeps what its threads have freed
_ARENA_MAX = -8  # of mallopt


def bound_arenas() -> None:
    """At the start, before there are threads."""
    option = _of_the_library("mallopt")
    if option is not None:
        option(_ARENA_MAX, ARENAS)


def return_freed_memory() -> None:
    """Without this glibc keeps what Python has freed."""
    trim = _of_the_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_the_library(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
