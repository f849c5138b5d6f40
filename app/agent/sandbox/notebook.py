"""Notebook habits in sandboxed code: %magics, !commands, display(), exit(), input(), IPython's functions."""

import ast
import builtins
import contextlib
import re
import sys
import types
from collections.abc import Callable
from typing import NoReturn

from app.agent.sandbox.libraries import installed

_MAGIC = re.compile(r"^(\s*)%{1,2}(\w+)[ \t]*(.*)$")
_COMMAND = re.compile(r"^(\s*)!+\s*(.*)$")
_BARE_INSTALL = re.compile(r"^(\s*)((?:python3? -m )?(?:pip3?|conda|apt|apt-get)\s+install\s.*)$")
_SILENT = ("matplotlib", "config", "load_ext", "autoreload", "reset")
_RUN_THE_REST = ("time", "timeit", "prun", "capture")

Show = Callable[[object], None]


def to_python(code: str) -> str:
    """Plain Python with as many lines as the notebook cell `code`; what Python can parse is left as it is."""
    if _parses(code):
        return code
    converted = "\n".join(_line(line) for line in code.splitlines())
    return converted if _parses(converted) else code


def _parses(code: str) -> bool:
    with contextlib.suppress(Exception):  # RecursionError and MemoryError too: running it will say
        ast.parse(code)
        return True
    return False


def _line(line: str) -> str:
    if found := _MAGIC.match(line):
        indent, name, rest = found.groups()
        if name in _SILENT:
            return indent + "pass"
        if name in _RUN_THE_REST:
            return indent + (re.sub(r"^(?:-\w+\s*\d*\s+)+", "", rest) or "pass")
        return f"{indent}print({_refusal(name + ' ' + rest)!r})"
    if found := _COMMAND.match(line) or _BARE_INSTALL.match(line):
        indent, command = found.groups()
        return f"{indent}print({_refusal(command)!r})"
    return line


def _refusal(command: str) -> str:
    if re.search(r"\binstall\b", command):
        return f"这里不能安装软件包（没有网络）。Nothing can be installed here: there is no network. {available()}"
    return "这里只能运行 Python。Only Python runs here, no shell commands and no other magics."


def available() -> str:
    """One sentence with the packages that can be imported."""
    return f"Available: the standard library, {', '.join(installed())}."


def install(show: Show) -> None:
    """Offer display(), get_ipython() and IPython.display to all code; exit() and quit() end the cell."""

    def display(*values: object, **_options: object) -> None:
        for value in values:
            show(value)

    def leave(code: object = None) -> NoReturn:
        raise SystemExit(code)

    def refuse_input(prompt: object = "") -> NoReturn:
        raise EOFError(f"nobody can type an answer to {str(prompt)!r} here: write the values into the code")

    class Shell:
        """What get_ipython() gives: magics that do nothing."""

        def run_line_magic(self, *_request: object) -> None: ...

        magic = system = run_line_magic

    offered = {"display": display, "get_ipython": Shell, "exit": leave, "quit": leave, "input": refuse_input}
    for name, function in offered.items():
        setattr(builtins, name, function)
    shell, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    shell.__dict__.update(display=shown, get_ipython=Shell, __path__=[])
    texts = dict.fromkeys(("Markdown", "Latex", "Math", "HTML", "Pretty"), str)
    shown.__dict__.update(texts, display=display, clear_output=lambda **_: None)
    sys.modules.update({"IPython": shell, "IPython.display": shown})
