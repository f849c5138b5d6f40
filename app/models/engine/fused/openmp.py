"""Compiled kernels on the OpenMP threads that torch has: no second team of threads waits beside the first.

torch's wheels for Linux run their parallel loops by GCC's OpenMP. `GOMP_parallel`, which `#pragma omp parallel`
becomes, runs a function once in each thread of the caller's team, which torch's next operation takes, too.
"""

import ctypes
import functools
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba import cfunc, types

from app.openmp_threads import torch_openmp

log = logging.getLogger(__name__)
SYMBOLS = ("omp_get_thread_num", "omp_get_num_threads")
thread_number, thread_count = (types.ExternalFunction(name, types.int32()) for name in SYMBOLS)
FAST = {"reassoc", "contract", "arcp", "nsz"}  # numbers may be infinite, or none


@functools.cache
def library() -> ctypes.CDLL:
    """torch's OpenMP, whose thread numbers compiled code may ask for from then on. Raises OSError where it is not
    GCC's."""
    for found in torch_openmp():
        loaded = ctypes.CDLL(found.filepath)
        if "gomp" in Path(found.filepath).name and hasattr(loaded, "GOMP_parallel"):
            for name in SYMBOLS:
                llvmlite.binding.add_symbol(name, ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value)
            loaded.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
            loaded.GOMP_parallel.restype = None
            return loaded
    raise OSError("torch's OpenMP is not GCC's")


class Kernel:
    """A compiled function of one structure of arguments."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
        self._parallel = library().GOMP_parallel

    def __call__(self, arguments: ctypes.Structure, parallel: bool) -> None:
        """In all of the calling thread's OpenMP threads, or in itself alone."""
        if parallel:
            self._parallel(self._address, ctypes.addressof(arguments), 0, 0)
        else:
            self._alone(ctypes.addressof(arguments))


def kernel(function: Callable[[Any], None]) -> Kernel:
    """Compile it, once for this machine where a folder takes what is compiled. Raises OSError as above."""
    library()
    compiled = functools.partial(cfunc, types.void(types.voidptr), fastmath=FAST, error_model="numpy")
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(_kept(settings.CACHE_DIR))
    try:
        made = compiled(cache=True)(function)
    except Exception:  # no place to keep it, or what is kept there is damaged
        log.info("a kernel is compiled for this process alone", exc_info=True)
        made = compiled()(function)
    finally:
        settings.CACHE_DIR = before
    return Kernel(made.address or 0)


def _kept(wanted: str) -> Path:
    """A folder for this state of the sources: Numba looks at that of the kernel alone, not at what it calls."""
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(here.glob("*.py")))).hexdigest()
    own = here / "__pycache__"
    is_ours = os.access(own if own.exists() else here, os.W_OK)
    place = Path(wanted) if wanted else own if is_ours else Path("~/.cache/puyu-studio").expanduser()
    return place / f"kernels-{digest[:12]}"
