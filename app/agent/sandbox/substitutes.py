"""Patches of libraries that would use sockets, threads, file times or unreadable files in a sandbox child."""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import io
import os
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

# What of PyArrow cannot do without threads: it would hang, or end the process.
_THREADED = {
    "csv": ("read_csv", "open_csv"),
    "dataset": ("dataset", "write_dataset"),
    "feather": ("read_feather", "read_table", "write_feather"),
    "json": ("read_json",),
}


def one_processor() -> None:
    """Before the libraries are loaded: those that start a thread for each processor start none."""
    for name in ("cpu_count", "process_cpu_count"):
        if hasattr(os, name):
            setattr(os, name, lambda: 1)
    os.sched_getaffinity = lambda _process: {0}


def install() -> None:
    """In the fork server, once its libraries are loaded."""
    selector_loop: Any = asyncio.SelectorEventLoop.__mro__[1]
    selector_loop._make_self_pipe = _wake_by_pipe
    for name in ("copymode", "copystat"):
        setattr(shutil, name, _without_refusal(getattr(shutil, name)))
    for patch in (_arrow_without_threads, _workbooks_in_memory, _time_zones_from_memory):
        with contextlib.suppress(ImportError):
            patch()


class _PipeEnd:
    """As much of a socket as asyncio needs to wake itself."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def recv(self, count: int) -> bytes:
        return os.read(self._descriptor, count)

    def send(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        os.close(self._descriptor)


def _wake_by_pipe(loop: Any) -> None:
    loop._ssock, loop._csock = (_PipeEnd(descriptor) for descriptor in os.pipe())
    loop._internal_fds += 1
    loop._add_reader(loop._ssock.fileno(), loop._read_from_self)


def _without_refusal(change: Callable[..., None]) -> Callable[..., None]:
    def attempt(*arguments: Any, **options: Any) -> None:
        with contextlib.suppress(PermissionError):
            change(*arguments, **options)

    return attempt


def _arrow_without_threads() -> None:
    """Tables, and Parquet files, are worked on by the calling thread; what cannot be says so."""
    modules: Any = [importlib.import_module(f"pyarrow{part}") for part in ("", ".parquet", ".acero")]
    arrow, parquet, acero = modules
    arrow.set_cpu_count(1)
    _always(arrow.lib._PandasConvertible, "to_pandas", use_threads=False)
    _always(acero.Declaration, "to_table", use_threads=False)
    _always(parquet.ParquetFile, "__init__", pre_buffer=False)
    for name in ("read", "read_row_group", "read_row_groups", "iter_batches"):
        _always(parquet.ParquetFile, name, use_threads=False)
    for module, names in _THREADED.items():
        for name in names:
            setattr(importlib.import_module(f"pyarrow.{module}"), name, _refuse_threads)

    def read_table(
        source: Any, *, columns: Any = None, filters: Any = None, use_pandas_metadata: bool = False, **_options: Any
    ) -> Any:
        file = parquet.ParquetFile(source)
        if filters is None:
            return file.read(columns=columns, use_pandas_metadata=use_pandas_metadata)
        wanted = file.read_row_groups([], columns=columns, use_pandas_metadata=use_pandas_metadata).column_names
        return file.read().filter(parquet.filters_to_expression(filters)).select(wanted)

    parquet.read_table = parquet.core.read_table = read_table
    _csv_by_pandas()


def _csv_by_pandas() -> None:
    """`engine="pyarrow"` is read by pandas' own parser, which needs no threads."""
    readers: Any = importlib.import_module("pandas.io.parsers.readers")
    read = readers._read

    def read_by_pandas(source: Any, options: dict[str, Any]) -> Any:
        if options.get("engine") == "pyarrow":
            options = {**options, "engine": "c", "engine_specified": False}
        return read(source, options)

    readers._read = read_by_pandas


def _always(kind: type, name: str, **given: object) -> None:
    """Let a method get these options whatever its caller says; methods of extension types have no other way in."""
    method = kind.__dict__[name]

    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        return method(*arguments, **options | given)

    gc.get_referents(kind.__dict__)[0][name] = call
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _refuse_threads(*_arguments: object, **_options: object) -> NoReturn:
    raise RuntimeError("PyArrow needs threads for this, which are not there: take CSV or Parquet by pandas")


def _workbooks_in_memory() -> None:
    """XlsxWriter sets the times of its temporary files, which is refused."""
    workbook = importlib.import_module("xlsxwriter.workbook").Workbook
    begin = workbook.__init__

    def begin_in_memory(self: Any, filename: Any = None, options: Any = None) -> None:
        begin(self, filename, {"in_memory": True} | (options or {}))

    workbook.__init__ = begin_in_memory


def _time_zones_from_memory() -> None:
    """The packaged zones, where the machine has none of its own."""
    common: Any = importlib.import_module("zoneinfo._common")
    folder = Path(str(importlib.import_module("tzdata").__file__)).parent / "zoneinfo"
    held = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    read = common.load_tzdata

    def load(key: str) -> Any:
        return io.BytesIO(held[key]) if key in held else read(key)

    common.load_tzdata = load
