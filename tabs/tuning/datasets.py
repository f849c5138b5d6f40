"""Named data sets on the training page: keep the chosen file, list, delete."""

from functools import partial
from typing import Any

import gradio as gr

from app.finetune.service import FinetuneService
from tabs.shell.page import Page, Visitor
from tabs.tuning.training_data import training_data
from tabs.tuning.training_widgets import Form


def wire(page: Page, service: FinetuneService, form: Form) -> None:
    page.on(form.keep.click, partial(keep, service, form), form.inputs, [form.kept, form.preview])
    page.on(form.forget.click, partial(forget, service, form), [form.kept], [form.kept])
    page.on(form.source.change, partial(refresh, service), [form.kept], [form.kept])
    page.on_arrival(partial(refresh, service), [form.kept], [form.kept])


def keep(service: FinetuneService, form: Form, visitor: Visitor, *inputs: Any) -> dict[Any, Any]:
    """Keep the chosen file under a name."""
    values = form.read(inputs)
    made = service.datasets.keep(
        visitor.name, values.set_name or "", training_data(service, visitor, values).conversations
    )
    told = visitor.text("compare.set_kept", name=made.name, rows=made.rows)
    return {form.kept: _choices(service, visitor, made.name), form.preview: told}


def forget(service: FinetuneService, form: Form, visitor: Visitor, name: str | None) -> dict[Any, Any]:
    """Delete a set."""
    service.datasets.forget(visitor.name, name or "")
    return {form.kept: _choices(service, visitor, None)}


def refresh(service: FinetuneService, visitor: Visitor, chosen: str | None) -> dict[str, Any]:
    """The visitor's own sets."""
    return _choices(service, visitor, chosen)


def _choices(service: FinetuneService, visitor: Visitor, chosen: str | None) -> dict[str, Any]:
    known = service.datasets.of(visitor.name)
    names = [(visitor.text("compare.set_line", name=one.name, rows=one.rows), one.name) for one in known]
    chosen = chosen if any(one.name == chosen for one in known) else None
    return gr.update(choices=names, value=chosen or (known[0].name if known else None))
