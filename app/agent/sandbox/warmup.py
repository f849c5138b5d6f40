"""Preload libraries and fonts in the fork server, so that forked children have them in memory."""

import builtins
import contextlib
import dataclasses
import importlib
import io
import logging
import os
import pkgutil
import posixpath
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

from app.agent.sandbox import libraries, substitutes

Extent = Literal["bare", "usual", "complete"]

_FONT_PACKAGE, _FONT_FILE = "pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"
_CHINESE_FAMILIES = (
    "Noto Sans SC",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
)
# Names that people and models write into rcParams; each shall show Chinese here.
_FAMILY_NAMES_IN_USE = (
    "SimHei",
    "Microsoft YaHei",
    "SimSun",
    "KaiTi",
    "FangSong",
    "PingFang SC",
    "Arial Unicode MS",
    "STHeiti",
)
_NOT_IMPORTED = (
    "antigravity",
    "this",
    "idlelib",
    "tkinter",
    "turtle",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "venv",
    "test",
)
_PARTS_NOT_IMPORTED = (
    ".tests", ".testing", "conftest", "_examples", "benchmarks", "backend_", "f2py", "distutils", "sphinxext",
    "__main__",
    ".this", "sympy.core.trace", "randtest", "runtests", "tmpfiles", "setup", "pyximport", "interactive",
    "qt_compat", "galgebra", "autowrap", "ply", "pandas.io.clipboard", "pandas._testing", "pylab",
)  # fmt: skip
_FONT_SUFFIXES = (".ttf", ".otf", ".ttc", ".afm", ".mplstyle")


def warm_up(extent: Extent) -> None:
    """Import what children need: bare: the standard library; usual: also the offered packages, the most common
    used once; complete: every part of every offered package, for children that can open nothing."""
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    substitutes.one_processor()
    libraries.allow_only(libraries.AllowedPackages)
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in _NOT_IMPORTED:
            _try_import(name)
            if extent == "complete":
                _import_parts(getattr(sys.modules.get(name), "__path__", ()), name)
    if extent == "bare":
        return
    for name in libraries.installed():
        package = importlib.import_module(name)
        if extent == "complete":
            _import_parts(package.__path__, name)
    _read_fonts()
    _use_once()
    substitutes.install()


def readable_places() -> tuple[str, ...]:
    """All that a child may read: the standard library, the allowed packages and the time zones."""
    places: set[str] = {"/usr/share/zoneinfo", "/dev/null", "/dev/urandom"}
    for folder in {Path(os.__file__).parent, Path(os.path.realpath(os.__file__)).parent}:
        places.update(str(entry) for entry in folder.iterdir() if not entry.name.endswith("-packages"))
    for site in sys.path:
        if site.endswith("-packages"):
            places.update(libraries.folders(site))
    return tuple(sorted(filter(os.path.exists, places)))


def _import_parts(path: Any, name: str) -> None:
    for part in pkgutil.walk_packages(path, name + ".", onerror=lambda _name: None):
        if not any(word in part.name for word in _PARTS_NOT_IMPORTED):
            _try_import(part.name)


def _try_import(name: str) -> None:
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(name)


def _read_fonts() -> None:
    """Hold the fonts in memory: matplotlib opens them again in each child, which may be unable to."""
    import matplotlib
    from matplotlib import font_manager

    matplotlib.use("Agg")
    manager = font_manager.fontManager
    own = Path(matplotlib.get_data_path())
    chinese = _chinese_font(manager)
    manager.ttflist = [font for font in manager.ttflist if Path(font.fname).is_relative_to(own)]
    held = {str(file): file.read_bytes() for file in own.rglob("*") if file.suffix in _FONT_SUFFIXES}
    held |= {os.path.realpath(name): content for name, content in held.items()}  # matplotlib uses both names
    if chinese is not None:
        held[os.path.realpath(chinese.fname)] = Path(chinese.fname).read_bytes()
        for name in (chinese.name, *_FAMILY_NAMES_IN_USE):
            for weight in (400, 700):
                manager.ttflist.append(
                    dataclasses.replace(chinese, fname=os.path.realpath(chinese.fname), name=name, weight=weight)
                )
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", chinese.name]
    _serve_from_memory(held)


def _chinese_font(manager: Any) -> Any:
    spec = PathFinder.find_spec(_FONT_PACKAGE)  # not one that a visitor's code may import
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / _FONT_FILE
        if file.exists():
            manager.addfont(str(file))
    for family in _CHINESE_FAMILIES:
        for font in manager.ttflist:
            if font.name == family:
                return font
    return None


class _HeldFile(io.BytesIO):
    """Like a file that was opened by name."""

    name: str | bytes


def _serve_from_memory(held: dict[str, bytes]) -> None:
    """Let `open` and `isfile` find the held files without asking the kernel."""
    real_open, real_isfile = io.open, posixpath.isfile

    def open_held(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        content = held.get(os.fspath(file)) if isinstance(file, (str, os.PathLike)) else None
        if content is None or mode not in ("r", "rb", "rt"):
            return real_open(file, mode, *arguments, **options)
        stream = _HeldFile(content)
        stream.name = os.fspath(file)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding=options.get("encoding") or "utf-8")

    def isfile_held(path: Any) -> bool:
        return (isinstance(path, (str, os.PathLike)) and os.fspath(path) in held) or real_isfile(path)

    for replaced in (open_held, isfile_held):  # tracebacks that visitors see name no file of the server
        replaced.__code__ = replaced.__code__.replace(co_filename="<sandbox>")
    io.open = builtins.open = open_held
    posixpath.isfile = isfile_held


def _use_once() -> None:
    """Run the usual paths, so that what they load lazily is loaded."""
    import matplotlib.pyplot as plt
    import numpy
    import pandas
    import PIL.Image
    import sympy

    PIL.Image.init()
    x = sympy.symbols("x")
    sympy.latex(sympy.solve(x**2 - 2 * x - 4, x)[0])
    sympy.integrate(sympy.exp(-(x**2)), (x, -sympy.oo, sympy.oo))
    sympy.lambdify(x, x**2, "numpy")(numpy.arange(3))
    frame = pandas.read_csv(io.StringIO("name,value\na,1\nb,2\n"))
    repr(frame.groupby("name").sum().describe())
    for format_ in ("xlsxwriter", "openpyxl"):
        with contextlib.suppress(ImportError):
            workbook = io.BytesIO()
            frame.to_excel(workbook, engine=format_)
            pandas.read_excel(workbook)
    for kind, format_ in (({}, "png"), ({"projection": "3d"}, "png"), ({}, "pdf"), ({}, "svg"), ({}, "eps")):
        figure = plt.figure()
        axes = figure.add_subplot(**kind)
        axes.plot([1, 2], [1, 2], label="线")
        axes.set_title(r"标题 $x^2+\frac{1}{2}$")
        axes.legend()
        figure.savefig(io.BytesIO(), format=format_, bbox_inches="tight")
        plt.close("all")
