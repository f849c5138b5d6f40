"""Cell runner inside a sandbox child: execute code, reply with value, error and pictures."""

import ast
import base64
import contextlib
import inspect
import io
import itertools
import linecache
import os
import signal
import sys
import traceback
import types
from types import FrameType
from typing import Any

from app.agent.sandbox import channel, notebook
from app.agent.sandbox.limits import Limits

CONTROL = 3
_ERROR_CHARACTERS = 4000


def serve(limits: Limits) -> None:
    """Answer cells until the server hangs up."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    while True:
        try:
            order = channel.receive(CONTROL)
        except EOFError:
            os._exit(0)
        reply = _answer(str(order["code"]), int(order["cell"]), main, limits)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        channel.send(CONTROL, reply)


def _answer(code: str, cell: int, main: types.ModuleType, limits: Limits) -> dict[str, object]:
    value, error, interrupted = "", "", False
    images: list[bytes] = []
    notebook.install(lambda shown: _display(shown, images, limits))
    try:
        signal.signal(signal.SIGINT, _interrupt)
        value = _run(notebook.to_python(code), f"<cell {cell}>", main, images)
    except KeyboardInterrupt:
        error, interrupted = "KeyboardInterrupt", True
    except BaseException as raised:
        error = _describe(raised)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        images += _figures(limits)
    except BaseException as raised:
        error = error or _describe(raised)
    _flush()
    return {
        "cell": cell,
        "value": value[: limits.output_characters],
        "error": error,
        "interrupted": interrupted,
        "images": [base64.b64encode(image).decode("ascii") for image in images[: limits.images]],
    }


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(code: str, name: str, main: types.ModuleType, images: list[bytes]) -> str:
    """Execute `code`; the repr of its last expression, as a notebook shows it."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    _evaluate(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), main)
    if not isinstance(last, ast.Expr):
        return ""
    value = _evaluate(compile(ast.Expression(last.value), name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), main)
    if isinstance(value, notebook.Leave):
        value()
    if value is None:
        return ""
    main.__dict__["_"] = value
    if drawn := _picture(value):
        images.append(drawn)
        return ""
    return "" if _is_drawing(value) else _text(value)


def _evaluate(code: types.CodeType, main: types.ModuleType) -> object:
    """The value of compiled code, which may await as a notebook's cells may."""
    value = eval(code, main.__dict__)
    if code.co_flags & inspect.CO_COROUTINE:
        import asyncio

        return asyncio.run(value)
    return value


def _text(value: object) -> str:
    """The repr; of what has none of its own, such as pandas' styled tables, the text that it gives of itself."""
    own = getattr(value, "to_string", None)
    text = own() if callable(own) and type(value).__repr__ is object.__repr__ else repr(value)
    return text if isinstance(text, str) else repr(value)


def _picture(value: object) -> bytes:
    """The PNG that a value shows itself as in a notebook, if it has one."""
    draw = getattr(value, "_repr_png_", None)
    return drawn if callable(draw) and isinstance(drawn := draw(), bytes) else b""


def _is_drawing(value: object) -> bool:
    """Whether the value is a part of a chart, or several: the chart itself is shown, its objects' names say nothing."""
    several: Any = getattr(value, "flat", value)  # an array of axes
    parts = (
        list(itertools.islice(several, 20)) if hasattr(value, "flat") or isinstance(value, list | tuple) else [value]
    )
    modules = [type(part).__module__ for part in parts]
    charts = [name.startswith(("matplotlib.", "mpl_toolkits.", "sympy.plotting")) for name in modules]
    return any(charts) and all(chart or name == "numpy" for chart, name in zip(charts, modules, strict=True))


def _display(value: object, images: list[bytes], limits: Limits) -> None:
    """What display() does: a picture where the value has one, else its text."""
    figure = getattr(value, "figure", value)
    if type(figure).__module__.startswith("matplotlib.") and hasattr(figure, "savefig"):
        images.append(_drawn(figure, limits))
        sys.modules["matplotlib.pyplot"].close(figure)
    elif drawn := _picture(value):
        images.append(drawn)
    else:
        sys.stdout.write(f"{value if isinstance(value, str) else _text(value)}\n")


def _describe(raised: BaseException) -> str:
    """The traceback without this package's own frames; nothing for a cell that left by exit()."""
    if isinstance(raised, SystemExit):
        return "" if raised.code in (None, 0, True) else f"SystemExit: {raised.code}"
    told = traceback.TracebackException.from_exception(raised)
    _keep_visitors_frames(told)
    hint = notebook.hint(raised, [step.filename for step in traceback.extract_tb(raised.__traceback__)])
    return f"{''.join(told.format())[-_ERROR_CHARACTERS:].strip()}\n{hint}".strip()


def _keep_visitors_frames(told: traceback.TracebackException) -> None:
    """The cells' own and the last two of libraries, none of ours; of a cell that does not parse none."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    frames = [step for step in told.stack if not step.filename.startswith((here, "<sandbox>", "<frozen"))]
    unparsed = isinstance(told.exc_type, type) and issubclass(told.exc_type, SyntaxError) and told.filename
    if unparsed and str(told.filename).startswith("<cell"):
        frames = []
    kept = [step for step in frames[:-2] if step.filename.startswith("<cell")][-5:] + frames[-2:]
    told.stack = traceback.StackSummary.from_list(kept)
    for earlier in (told.__cause__, told.__context__):
        if earlier is not None:
            _keep_visitors_frames(earlier)


def _figures(limits: Limits) -> list[bytes]:
    """What pyplot has open, drawn and closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    drawn = []
    try:
        for number in pyplot.get_fignums()[: limits.images]:
            drawn.append(_drawn(pyplot.figure(number), limits))
    finally:
        pyplot.close("all")
    return drawn


def _drawn(figure: Any, limits: Limits) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=limits.image_dots_per_inch, bbox_inches="tight")
    return buffer.getvalue()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # a stranger may have replaced the stream
            stream.flush()
