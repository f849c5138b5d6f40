"""Compiled kernels on the OpenMP threads that torch has: no second team of threads waits beside the first.

torch's wheels for Linux run their parallel loops by GCC's OpenMP. `GOMP_parallel`, which `#pragma omp parallel`
becomes, runs a function once in each thread of the caller's team, which torch's next operation takes, too.
"""

import ctypes
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import torch  # noqa: F401  loads its OpenMP
from numba import cfunc, types
from threadpoolctl import ThreadpoolController

SYMBOLS = ("omp_get_thread_num", "omp_get_num_threads")
thread_number, thread_count = (types.ExternalFunction(name, types.int32()) for name in SYMBOLS)
FAST = {"reassoc", "contract", "arcp", "nsz"}  # numbers may be infinite, or none


@functools.cache
def library() -> ctypes.CDLL:
    """torch's OpenMP, whose thread numbers compiled code may ask for from then on. Raises OSError where it is not
    GCC's."""
    for found in ThreadpoolController().select(user_api="openmp").lib_controllers:
        loaded = ctypes.CDLL(found.filepath)
        if "torch" in found.filepath and hasattr(loaded, "GOMP_parallel"):
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
    numba.config.CACHE_DIR = numba.config.CACHE_DIR or _kept()  # type: ignore[attr-defined]
    compiled = functools.partial(cfunc, types.void(types.voidptr), fastmath=FAST, error_model="numpy")
    try:
        made = compiled(cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        made = compiled()(function)
    return Kernel(made.address or 0)


def _kept() -> str:
    """A folder for this state of the sources: Numba looks at that of the kernel alone, not at what it calls."""
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(here.glob("*.py")))).hexdigest()
    return str(here / "__pycache__" / f"kernels-{digest[:12]}")
