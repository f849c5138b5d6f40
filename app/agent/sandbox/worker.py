"""Cell runner inside a sandbox child: execute code, reply with value, error and pictures."""

import ast
import base64
import contextlib
import io
import linecache
import os
import signal
import sys
import traceback
import types
from types import FrameType

from app.agent.sandbox import channel
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
    try:
        signal.signal(signal.SIGINT, _interrupt)
        value = _run(code, f"<cell {cell}>", main, images)
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
    exec(compile(tree, name, "exec"), main.__dict__)
    if not isinstance(last, ast.Expr):
        return ""
    value = eval(compile(ast.Expression(last.value), name, "eval"), main.__dict__)
    if value is None:
        return ""
    main.__dict__["_"] = value
    picture = getattr(value, "_repr_png_", None)
    if callable(picture) and isinstance(drawn := picture(), bytes):
        images.append(drawn)
    return repr(value)


def _describe(raised: BaseException) -> str:
    """The traceback without the frames of this file, and without the folders that Python's libraries lie in."""
    if isinstance(raised, SystemExit):
        return f"SystemExit: {raised.code}"
    steps = raised.__traceback__
    while steps is not None and steps.tb_frame.f_code.co_filename == __file__:
        steps = steps.tb_next
    text = "".join(traceback.format_exception(type(raised), raised, steps, limit=-5))
    for place in sorted(filter(None, sys.path), key=len, reverse=True):
        text = text.replace(f'"{place}/', '"').replace(f"'{place}/", "'")
    return text[-_ERROR_CHARACTERS:].strip()


def _figures(limits: Limits) -> list[bytes]:
    """What pyplot has open, drawn and closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    drawn = []
    try:
        for number in pyplot.get_fignums()[: limits.images]:
            buffer = io.BytesIO()
            figure = pyplot.figure(number)
            figure.savefig(buffer, format="png", dpi=limits.image_dots_per_inch, bbox_inches="tight")
            drawn.append(buffer.getvalue())
    finally:
        pyplot.close("all")
    return drawn


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # a stranger may have replaced the stream
            stream.flush()
