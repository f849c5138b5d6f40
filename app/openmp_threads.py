"""OpenMP threads: each thread computes alone, and who takes all cores gives its team back afterwards.

GCC's OpenMP, by which torch computes, keeps a team for each thread that ever computed in parallel. While all teams
together have more threads than the machine has cores, their members do not wait for the next piece of work but sleep
and are woken (libgomp's "throttled" spinning), some two hundred times in one step of a model: twice the time on two
cores.
"""

import ctypes
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

SOFT = 1  # of OpenMP's omp_pause_resource_t: what was set stays
_CORES = torch.get_num_threads()


def cores() -> int:
    """How many threads a computation may have: OMP_NUM_THREADS, else the machine's cores."""
    return _CORES


def compute_alone() -> None:
    """From now on each thread computes with one core unless it asks for all. Once in a process that serves models."""
    torch.set_num_threads(1)  # of each later thread, too, once it works on many numbers


@contextmanager
def all_cores() -> Iterator[None]:
    """All cores for what this thread computes meanwhile."""
    before = torch.get_num_threads()  # torch sets a thread's number when it is first asked
    set_threads(cores())
    try:
        yield
    finally:
        set_threads(before)
        give_back()


def set_threads(number: int) -> None:
    """How many threads what this thread computes next has; torch's own number would be that of later threads, too."""
    for library in torch_openmp():
        library.set_num_threads(number)
    for limit in _mkl_limits():  # products in float32
        limit(number)


def give_back() -> None:
    """End this thread's team. The next computation in parallel makes one anew, in a tenth of a millisecond."""
    for pause in _pauses():
        pause(SOFT)


@functools.cache
def torch_openmp() -> Sequence[Any]:
    """threadpoolctl's handles of the OpenMP that torch computes by; other packages bring their own beside it."""
    found = ThreadpoolController().select(user_api="openmp").lib_controllers
    home = Path(torch.__file__).parent
    own = [library for library in found if {home, home.with_name("torch.libs")} & {*Path(library.filepath).parents}]
    return own or found


@functools.cache
def _pauses() -> Sequence[Any]:
    loaded = [ctypes.CDLL(library.filepath) for library in torch_openmp()]
    return [library.omp_pause_resource_all for library in loaded if hasattr(library, "omp_pause_resource_all")]


@functools.cache
def _mkl_limits() -> Sequence[Any]:
    """MKL's own number for a thread, which torch's wheels have inside; it goes before OpenMP's."""
    with suppress(OSError, AttributeError):
        return [ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).MKL_Set_Num_Threads_Local]
    return []
