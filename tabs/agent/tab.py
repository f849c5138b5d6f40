"""Agent page: event handlers of the tab, and the endpoints `/agent` and `/interpreter`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import gradio as gr

from app.agent.service import AgentService
from app.agent.steps import Exchange, Step
from app.models.interface import Registry
from app.paths import ASSETS
from tabs.agent.bubbles import bubbles_of, file_label, plain_steps
from tabs.agent.widgets import AgentWidgets, draw, draw_unavailable, is_small
from tabs.shell.conversation import busy_box, idle_box
from tabs.shell.generators import View, Views
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded

SAMPLE = ASSETS / "examples" / "sales.csv"


def build(page: Page, service: AgentService, registry: Registry, *, login: bool = False) -> None:
    """Draw the tab, wire it, publish `/agent`; with a login also `/interpreter`, the sandbox without a model."""
    if service.available:
        widgets = draw(page, service, registry)
        _wire(page, service, widgets)
    else:
        draw_unavailable(page, service)
    page.api(partial(agent, service), "agent", holds=True)
    if login and service.available:
        page.api(partial(interpreter, service), "interpreter", holds=True)


def agent(
    service: AgentService,
    visitor: Visitor,
    task: str,
    model: str | None = None,
    max_steps: int = 6,
    documents: str = "",
    tools: bool = False,
) -> Iterator[list[dict[str, str]]]:
    """Work on a task with Python in a sandbox of its own; each value is the list of steps so far.

    The model may search the collection `documents`, or all by "*", and call the operator's `tools`.
    """
    session = token_hex(16)
    bounds = _bounds(visitor, max_steps, documents=documents, tools=tools)
    try:
        for steps in service.run(session, task, model or "", bounds, visitor=visitor.name):
            yield plain_steps(visitor, steps)
    finally:
        service.reset(session)


def interpreter(service: AgentService, visitor: Visitor, code: str) -> list[dict[str, str]]:
    """Run Python code in a sandbox without network and show what it printed and drew."""
    return [step for steps in service.interpret(code) for step in plain_steps(visitor, steps)]


def _wire(page: Page, service: AgentService, widgets: AgentWidgets) -> None:
    options = [widgets.model, widgets.max_steps, widgets.approve, widgets.documents, widgets.tools]
    view = widgets.view
    page.on(widgets.box.submit, partial(send, service, widgets), [widgets.box, *options], view, holds=True)
    page.on(widgets.chatbot.example_select, partial(send_example, service, widgets), options, view, holds=True)
    page.on(widgets.run.click, partial(decide, service, widgets, True), [widgets.model, widgets.edited], view)
    page.on(widgets.skip.click, partial(decide, service, widgets, False), [widgets.model, widgets.edited], view)
    page.on(widgets.box.stop, partial(stop, service))
    page.on(widgets.reset.click, partial(reset, service, widgets), [], view)
    page.on(widgets.model.change, warn_of_small_model, [widgets.model], [widgets.note])
    page.on_arrival(warn_of_small_model, [widgets.model], [widgets.note])
    if service.with_files:
        page.on(widgets.upload.upload, partial(upload, service), [widgets.upload], [widgets.files], holds=True)
        page.download(widgets.download.click, partial(fetch, service), [widgets.files])

    def leave(request: gr.Request) -> None:
        """The page was closed: nothing of its session stays, unless it is there again soon."""
        service.leave(request.session_hash or "")

    page.blocks.unload(leave)
    service.page_is_open = page.is_open


def send(
    service: AgentService,
    widgets: AgentWidgets,
    visitor: Visitor,
    task: str,
    model: str,
    max_steps: int,
    approve: bool,
    documents: bool,
    tools: bool,
) -> Views:
    """The visitor typed a task."""
    yield {widgets.box: busy_box(), widgets.approval: gr.update(visible=False)}
    bounds = _bounds(visitor, max_steps, approve=approve, documents="*" if documents else "", tools=tools)
    steps = service.run(visitor.session, task, model, bounds, visitor=visitor.name)
    return (yield from _follow(service, widgets, visitor, steps, task))


def send_example(
    service: AgentService,
    widgets: AgentWidgets,
    visitor: Visitor,
    event: gr.SelectData,
    model: str,
    max_steps: int,
    approve: bool,
    documents: bool,
    tools: bool,
) -> Views:
    """The visitor chose an example; the one about a file brings the file along."""
    task = str(event.value["text"])
    if SAMPLE.name in task:
        service.add_file(visitor.session, SAMPLE, SAMPLE.name, visitor=visitor.name)
    return (yield from send(service, widgets, visitor, task, model, max_steps, approve, documents, tools))


def decide(
    service: AgentService, widgets: AgentWidgets, allowed: bool, visitor: Visitor, model: str, edited: str
) -> Views:
    """The visitor let the waiting code run, as it stands in the editor, or did not."""
    yield {widgets.box: busy_box(None), widgets.approval: gr.update(visible=False)}
    steps = service.approve(visitor.session, allowed, model, code=edited, visitor=visitor.name)
    return (yield from _follow(service, widgets, visitor, steps, ""))


def stop(service: AgentService, visitor: Visitor) -> None:
    """End the generation or the code that runs for this page."""
    service.stop(visitor.session)


def reset(service: AgentService, widgets: AgentWidgets, visitor: Visitor) -> View:
    """Forget talk, variables and files."""
    service.reset(visitor.session)
    return {
        widgets.chatbot: [],
        widgets.box: idle_box(""),
        widgets.approval: gr.update(visible=False),
        widgets.files: gr.update(choices=[]),
    }


def upload(service: AgentService, visitor: Visitor, paths: list[str]) -> dict[str, Any]:
    """Take uploads into the session's folder; no other copy stays."""
    taken = uploaded(paths or [])
    try:
        for path, name in taken:
            service.add_file(visitor.session, path, name, visitor=visitor.name)
    finally:
        discard(path for path, _ in taken)
    return _files(service, visitor)


def fetch(service: AgentService, visitor: Visitor, name: str | None) -> tuple[str, bytes]:
    """One file of the session for the browser to save."""
    task, _, name = (name or "").partition(":")
    return Path(name).name, service.read_file(visitor.session, name, int(task) if task.isdecimal() else 0)


def warn_of_small_model(visitor: Visitor, model: str) -> dict[str, Any]:
    """Say how little the packaged model can do."""
    small = is_small(model)
    return gr.update(value=visitor.text("agent.small_model") if small else "", visible=small)


def _follow(
    service: AgentService, widgets: AgentWidgets, visitor: Visitor, running: Iterator[list[Step]], task: str
) -> Views:
    """Show the steps as they come; however it ends the box is free again."""
    files_of = partial(service.files_of, visitor.session)
    try:
        for steps in running:
            talk = service.talk(visitor.session)
            if any(step.kind == "loading" for step in steps):
                talk.append(Exchange(task, steps))
            yield {widgets.chatbot: bubbles_of(visitor, talk, files_of)}
    except Exception:
        still = service.waiting(visitor.session) is not None  # what was refused before the code was taken up
        yield {widgets.box: idle_box(task or None), widgets.approval: gr.update(visible=still)}
        raise
    waiting = service.waiting(visitor.session)
    return {
        widgets.chatbot: bubbles_of(visitor, service.talk(visitor.session), files_of),
        widgets.box: idle_box(),
        widgets.approval: gr.update(visible=waiting is not None),
        widgets.edited: waiting or "",
        widgets.files: _files(service, visitor),
    }


def _files(service: AgentService, visitor: Visitor) -> dict[str, Any]:
    choices = [(file_label(task, name), f"{task}:{name}") for task, name in service.files(visitor.session)]
    return gr.update(choices=choices, value=choices[-1][1] if choices else None)


def _bounds(
    visitor: Visitor, max_steps: int, *, approve: bool = False, documents: str = "", tools: bool = False
) -> Any:
    from app.agent.conversation import Bounds  # needs Lagent, which takes seconds to import

    most = max(1, min(int(max_steps), 20))
    return Bounds(most, approve=approve, documents=documents, tools=tools, language=visitor.language)
