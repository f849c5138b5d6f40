"""Error border of page handlers: errors become dialogs; gradio sees a wrapped handler's own parameters."""

import inspect
import logging
import typing
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr

from app.errors import Language, StudioError, Unexpected
from app.texts import sentence

log = logging.getLogger(__name__)
Handler = Callable[..., Any]


@contextmanager
def dialog(language: Language) -> Iterator[None]:
    """The one border between errors and the page."""
    title = sentence(language, "app.error")
    try:
        yield
    except gr.Error:
        raise
    except StudioError as error:
        raise gr.Error(error.text(language), title=title, print_exception=False) from error
    except Exception as error:
        log.exception("a page handler failed")
        raise gr.Error(Unexpected().text(language), title=title, print_exception=False) from error


def _innermost(handler: Handler) -> Handler:
    while isinstance(handler, partial):
        handler = handler.func
    return handler


def hints_of(handler: Handler) -> dict[str, Any]:
    return typing.get_type_hints(_innermost(handler))


def describe(border: Handler, handler: Handler, endpoint: bool) -> None:
    """Tell gradio the handler's own parameters, so that event data, progress and API types are found."""
    inner, hints = _innermost(handler), hints_of(handler)
    signature = inspect.signature(handler)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    leading = {"request": gr.Request} | ({} if endpoint else {"remembered": Any, "kept_by_browser": Any})
    parameters = [inspect.Parameter(name, kind, annotation=hint) for name, hint in leading.items()]
    for parameter in list(signature.parameters.values())[1:]:
        parameters.append(parameter.replace(annotation=hints.get(parameter.name, Any)))
    returns = hints.get("return", Any)
    if typing.get_origin(returns) in (Iterator, Generator):
        returns = typing.get_args(returns)[0]
    signature = inspect.Signature(parameters, return_annotation=returns)
    annotations = {parameter.name: parameter.annotation for parameter in parameters}
    described: Any = border
    described.__name__ = inner.__name__
    described.__doc__ = inner.__doc__
    described.__signature__ = signature
    described.__annotations__ = annotations | {"return": returns}
