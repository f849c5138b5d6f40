"""Patches of libraries that would use sockets, threads, file times or unreadable files in a sandbox child."""

import asyncio
import contextlib
import importlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
    """Parquet files are read and written by the calling thread."""
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    pandas_parquet: Any = importlib.import_module("pandas.io.parquet")
    convert = pandas_parquet.arrow_table_to_pandas
    arrow.set_cpu_count(1)

    def read_table(source: Any, *, columns: Any = None, **_options: Any) -> Any:
        return parquet.ParquetFile(source, pre_buffer=False).read(columns=columns, use_threads=False)

    def to_pandas(table: Any, **options: Any) -> Any:
        return convert(table, **options | {"to_pandas_kwargs": {"use_threads": False}})

    pandas_parquet.arrow_table_to_pandas = to_pandas
    parquet.read_table = read_table


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
