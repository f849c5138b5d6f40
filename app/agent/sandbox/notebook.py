"""Notebook habits in sandboxed code: %magics, !commands, display(), exit(), input(), IPython's functions."""

import ast
import builtins
import contextlib
import io
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NoReturn

from app.agent.sandbox.libraries import installed

_MAGIC = re.compile(r"^(\s*)%{1,2}(\w+)[ \t]*(.*)$")
_COMMAND = re.compile(r"^(\s*)(?:!+|\$ )\s*(.*)$")
_COMMAND_AFTER = re.compile(r"^(\s*)(.*?;)\s*(![^=].*)$")
_BARE_INSTALL = re.compile(
    r"^(\s*)((?:sudo )?(?:(?:python3? -m |uv )?pip3?|conda|mamba|apt|apt-get)\s+(?:-\S+\s+)*install\s.*)$"
)
_BARE_COMMAND = re.compile(r"^(\s*)((?:cd|ls|mkdir)\s+[\w./~-].*)$")
_STRING = re.compile(r"""#[^\n]*|(\"{3}|'{3})(?:\\.|.)*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)
_SILENT = ("matplotlib", "config", "load_ext", "autoreload", "reset")
_HELP = re.compile(r"^(\s*)(?:\?{1,2}\s*([A-Za-z_][\w.]*)|([A-Za-z_][\w.]*)(?:\([^()]*\))?\?{1,2})\s*$")
_CAPTURED = re.compile(r"^(\s*)([A-Za-z_][\w, ]*=\s*)(!|%(?=[A-Za-z]))(.*)$")
_STARTERS = ("subprocess.py", "threading.py", "multiprocessing", "socket.py", "urllib/request.py")
_DISPLAYED = (
    *("Audio", "Code", "FileLink", "HTML", "IFrame", "JSON", "Javascript", "Latex", "Markdown", "Math", "Pretty"),
    *("SVG", "Video", "YouTubeVideo"),
)
_RUN_THE_REST = ("time", "timeit", "prun", "capture")

Show = Callable[[object], None]


def to_python(code: str) -> str:
    """Plain Python with as many lines as the notebook cell `code`; what Python can parse is left as it is."""
    if _parses(code):
        return code
    lines = code.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    whole = _MAGIC.match(lines[first]) if lines and lines[first].startswith("%%") else None
    if whole and whole[2] not in (*_SILENT, *_RUN_THE_REST):  # the rest of the cell is another language's
        lines = lines[: first + 1]
    converted = "\n".join(_converted(lines))
    return converted if _parses(converted) else code


def _parses(code: str) -> bool:
    with contextlib.suppress(Exception):  # RecursionError and MemoryError too: running it will say
        ast.parse(code)
        return True
    return False


def _converted(lines: Sequence[str]) -> Iterator[str]:
    """The lines, each as Python where it is outside of strings; of a command over several lines the first."""
    inside, goes_on = _within_strings("\n".join(lines)), False
    for number, line in enumerate(lines):
        if goes_on:
            goes_on = line.endswith("\\")
            yield ""
            continue
        converted = line if number in inside else _line(line)
        goes_on = line.endswith("\\") and not converted.endswith("\\")
        yield converted


def _within_strings(code: str) -> set[int]:
    """Numbers of the lines that begin within a string."""
    found = [(code.count("\n", 0, each.start()), code.count("\n", 0, each.end())) for each in _STRING.finditer(code)]
    return {number for first, last in found for number in range(first + 1, last + 1)}


def _line(line: str) -> str:
    if found := _MAGIC.match(line):
        indent, name, rest = found.groups()
        if name in _SILENT:
            return indent + "pass"
        if name in _RUN_THE_REST:
            return indent + (re.sub(r"^(?:-\w+\s*\d*\s+)+", "", rest) or "pass")
        return f"{indent}print({_refusal(name + ' ' + rest)!r})"
    bare = None if _parses(line.strip()) else _BARE_COMMAND.match(line)
    if found := _COMMAND.match(line) or _BARE_INSTALL.match(line) or bare:
        indent, command = found.groups()
        return f"{indent}print({_refusal(command)!r})"
    if (found := _COMMAND_AFTER.match(line)) and _parses(found[2]):
        return f"{found[1]}{found[2]} print({_refusal(found[3])!r})"
    if found := _CAPTURED.match(line):
        indent, target, sign, command = found.groups()
        told = f"print({_refusal(command)!r})"
        return f"{indent}{told}; {target}[]" if sign == "!" else f"{indent}{target}{told}"
    if found := _HELP.match(line):
        return f"{found[1]}help({found[2] or found[3]})"
    return line


def _refusal(command: str) -> str:
    if re.search(r"\binstall\b", command):
        return f"这里不能安装软件包（没有网络）。Nothing can be installed here: there is no network. {available()}"
    return "这里只能运行 Python。Only Python runs here, no shell commands and no other magics."


def _run_no_command(command: object) -> int:
    """os.system(): as a shell that does not know the command."""
    sys.stdout.write(_refusal(str(command)) + "\n")
    return 127 << 8


def available() -> str:
    """One sentence with the packages that can be imported."""
    return f"Available: the standard library, {', '.join(installed())}."


def hint(raised: BaseException, files: Sequence[str]) -> str:
    """What to do about an error of what the sandbox does not have; `files` are those of its traceback."""
    missing = raised.__cause__ if isinstance(raised.__cause__, ModuleNotFoundError) else raised
    if isinstance(missing, ModuleNotFoundError) and missing.name not in sys.stdlib_module_names:
        return f"It is not there and cannot be installed. {available()}"
    refused = isinstance(raised, OSError | RuntimeError)
    if refused and any(name in file for file in files for name in _STARTERS):
        return f"There are no threads, other programs and no network here. {available()}"
    return ""


class Leave:
    """`exit` and `quit`: called, or named alone as in IPython, they end the cell."""

    def __call__(self, code: object = None) -> NoReturn:
        raise SystemExit(code)


class Shell:
    """What get_ipython() gives: magics, events and formatters that do nothing."""

    def __getattr__(self, name: str) -> "Shell":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _name: object) -> "Shell":
        return self

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __call__(self, *_request: object, **_options: object) -> None: ...


class Image:
    """IPython.display.Image: the content of a file, or bytes."""

    def __init__(self, data: object = None, filename: object = None, **_options: object) -> None:
        path = filename or (data if isinstance(data, str | os.PathLike) else None)
        self.data = Path(str(path)).read_bytes() if path else data

    def _repr_png_(self) -> object:
        if not isinstance(self.data, bytes) or self.data.startswith(b"\x89PNG"):
            return self.data
        from PIL import Image as Pictures

        png = io.BytesIO()
        Pictures.open(io.BytesIO(self.data)).save(png, "PNG")
        return png.getvalue()


def install(show: Show) -> None:
    """Offer display(), get_ipython() and IPython.display to all code; exit() and quit() end the cell."""

    def display(*values: object, **_options: object) -> None:
        for value in values:
            show(value)

    def refuse_input(prompt: object = "") -> NoReturn:
        raise EOFError(f"nobody can type an answer to {str(prompt)!r} here: write the values into the code")

    offered = {"display": display, "get_ipython": Shell, "exit": Leave(), "quit": Leave(), "input": refuse_input}
    os.system = _run_no_command
    for name, function in offered.items():
        setattr(builtins, name, function)
    shell, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    shell.__dict__.update(display=shown, get_ipython=Shell, __path__=[], __version__="8.0.0")
    for module in (shell, shown):
        module.__spec__ = ModuleSpec(module.__name__, None)
    texts = dict.fromkeys(_DISPLAYED, str)
    shown.__dict__.update(texts, Image=Image, display=display, clear_output=lambda *_, **__: None)
    sys.modules.update({"IPython": shell, "IPython.display": shown})
