"""Models page: live memory ledger, load and unload, fit check, drift of quantised models."""

from collections.abc import Callable, Generator
from dataclasses import asdict
from functools import partial
from typing import Any

import gradio as gr

from app.errors import Language, StudioError
from app.models.interface import Drift, DriftStep, Ledger, LedgerEntry, Registry
from app.models.model_files import ModelFiles
from app.models.waiting import stepping
from tabs.models.files import draw_files
from tabs.models.ledger_view import ledger_html
from tabs.shell.model_choice import model_choice
from tabs.shell.page import Page, Visitor

EVERY_S, AT_REST_S = 1.5, 10.0  # how often the ledger is read while a model loads or answers, and otherwise
CUT = "…"  # in the place of a number, where sentences are compared up to it
Drawer = Callable[[Ledger, Language], str]  # the ledger as HTML


def build(page: Page, registry: Registry, files: ModelFiles | None, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Draw the panel and publish `/models`. The ledger is read again only while the tab is open. `files` and logs are
    for people of this machine: None where others come in."""
    with gr.Column(elem_id="models"):
        ledger = gr.HTML(elem_id="ledger")
        with gr.Row(elem_id="models-bar"):
            choice = model_choice(page, registry, "models.choose", scale=3, info="models.choose_info")
            load = page.bind(gr.Button(variant="primary", scale=0, min_width=110), value="models.load")
            unload = page.bind(gr.Button(scale=0, min_width=110), value="models.unload")
            check = page.bind(gr.Button(scale=0, min_width=110, elem_id="models-check"), value="models.check_drift")
            stop = page.bind(
                gr.Button(scale=0, min_width=110, visible=False, elem_id="models-check-stop"), value="models.check_stop"
            )
        fit = gr.Markdown(elem_id="models-fit")
        if files is not None:
            draw_files(page, files, tab, choice)
    clock = gr.Timer(EVERY_S, active=False)
    draw = partial(ledger_html, with_logs=files is not None)
    reading = partial(refresh, registry, draw, ledger, fit, clock), [ledger, choice, fit, clock], [ledger, fit, clock]
    page.on_arrival(*reading)
    page.on(clock.tick, *reading)
    page.on(tabs.select, partial(watch, tab.id), [], [clock])
    page.on(choice.change, partial(will_fit, registry), [choice], [fit])
    page.on(tab.select, partial(open_panel, registry, draw), [choice], [ledger, fit])
    for button, deed in ((load, act_load), (unload, act_unload)):
        page.on(button.click, partial(deed, registry, draw), [choice], [ledger, fit, clock])
    _wire_check(page, registry, choice, fit, check, stop)
    page.api(partial(models, registry), "models")


def _wire_check(
    page: Page, registry: Registry, choice: gr.Dropdown, fit: gr.Markdown, check: gr.Button, stop: gr.Button
) -> None:
    checking = page.on(check.click, partial(check_drift, registry), [choice], [fit, check, stop])
    settle = partial(end_check, registry)
    page.on(checking.failure, settle, [choice], [fit, check, stop])
    page.on(stop.click, settle, [choice], [fit, check, stop], cancels=[checking])


def models(registry: Registry, visitor: Visitor) -> dict[str, Any]:
    """The memory ledger of the server."""
    return ledger_json(registry.for_visitor(visitor.name).ledger())


def refresh(
    registry: Registry,
    draw: Drawer,
    ledger: gr.HTML,
    fit: gr.Markdown,
    clock: gr.Timer,
    visitor: Visitor,
    shown: str,
    name: str,
    told: str | None,
    every: float,
) -> dict[Any, Any]:
    """The ledger as it is now, and how the chosen model's load goes; nothing is sent while nothing changes."""
    registry = registry.for_visitor(visitor.name)
    account = registry.ledger()
    drawn = draw(account, visitor.language)
    now = _under_way(registry, visitor, name) or (
        will_fit(registry, visitor, name) if _was_under_way(registry, visitor, name, told) else told
    )
    is_busy = any(entry.leases or entry.state in ("loading", "downloading") for entry in account.models)
    wanted = EVERY_S if is_busy else AT_REST_S
    return {
        ledger: gr.skip() if drawn == shown else drawn,
        fit: gr.skip() if now == told else now,
        clock: gr.skip() if wanted == every else gr.update(value=wanted),
    }


def watch(own: object, _visitor: Visitor, event: gr.SelectData) -> dict[str, Any]:
    """Another tab was opened, perhaps ours."""
    return gr.update(active=event.id == own)


def open_panel(registry: Registry, draw: Drawer, visitor: Visitor, name: str) -> list[str]:
    """What the panel shows when it is opened."""
    drawn = draw(registry.for_visitor(visitor.name).ledger(), visitor.language)
    return [drawn, will_fit(registry, visitor, name)]


def _under_way(registry: Registry, visitor: Visitor, name: str) -> str:
    """How the load of a model goes, or how it ended; empty where nothing was loaded of it."""
    public = registry.public_name(name)
    held = next((entry for entry in registry.ledger().models if entry.name == public), None)
    if held is None:
        return ""
    if held.state in ("loading", "downloading"):
        return visitor.text(f"models.now_{held.state}", name=name, percent=int(100 * (held.progress or 0)))
    if held.state == "failed":
        reason = held.detail_zh if visitor.language == "zh" and held.detail_zh else held.detail
        return visitor.text("models.has_failed", name=name, reason=reason)
    return _loaded(visitor, held) if held.state == "ready" else ""


def _was_under_way(registry: Registry, visitor: Visitor, name: str, told: str | None) -> bool:
    """Whether what is shown says that the model is loaded or being loaded, which it may be no more."""
    sentences = (
        visitor.text("models.is_loaded", name=registry.public_name(name), mib=CUT),
        *(visitor.text(f"models.now_{state}", name=name, percent=CUT) for state in ("loading", "downloading")),
    )
    return any((told or "").startswith(sentence.partition(CUT)[0]) for sentence in sentences)


def _loaded(visitor: Visitor, held: LedgerEntry) -> str:
    return visitor.text("models.is_loaded", name=held.name, mib=held.mib + held.cache_mib)


def act_load(registry: Registry, draw: Drawer, visitor: Visitor, name: str) -> list[Any]:
    """Start loading."""
    registry.for_visitor(visitor.name).load(name)
    return [*open_panel(registry, draw, visitor, name), gr.update(value=EVERY_S)]


def act_unload(registry: Registry, draw: Drawer, visitor: Visitor, name: str) -> list[Any]:
    """Give the memory back, or end a download."""
    registry.for_visitor(visitor.name).unload(name)
    return [*open_panel(registry, draw, visitor, name), gr.update(value=EVERY_S)]


def check_drift(registry: Registry, visitor: Visitor, name: str) -> Generator[list[Any], None, list[Any]]:
    """Compare a quantised model with itself at full precision, telling how far it is."""
    told = visitor.text("models.check_begins", name=name)
    for steps in stepping(registry.for_visitor(visitor.name).check_drift(name)):
        for step in steps:
            told = _told(visitor, name, step)
        yield [told, *_buttons(busy=True)]
    return [told, *_buttons(busy=False)]


def end_check(registry: Registry, visitor: Visitor, name: str) -> list[Any]:
    """After a stop or a failure."""
    return [will_fit(registry, visitor, name), *_buttons(busy=False)]


def _told(visitor: Visitor, name: str, step: DriftStep | Drift) -> str:
    if isinstance(step, DriftStep):
        return visitor.text(f"models.check_steps.{step.model}", name=name, done=step.done, total=step.total)
    figures = {"kl": f"{step.mean_kl:.4f}", "same": f"{step.same_choice:.0%}", "places": step.places}
    return visitor.text("models.drift_told", name=name, **figures)


def _buttons(*, busy: bool) -> list[dict[str, Any]]:
    return [gr.update(visible=not busy), gr.update(visible=busy)]


def will_fit(registry: Registry, visitor: Visitor, name: str) -> str:
    """Whether a model fits or is there, and what its kind of files costs."""
    registry = registry.for_visitor(visitor.name)
    try:
        fit = registry.fit(name)
    except StudioError as error:
        return error.text(visitor.language)
    if not fit.needed_mib:
        return visitor.text("models.is_far", name=name)
    unpacks = f" {visitor.text('models.unpacks', name=name)}" if fit.unpacks else ""
    if told := _under_way(registry, visitor, name):
        return told + unpacks
    key = "models.fits_after" if fit.evicts else "models.fits" if fit.fits else "models.does_not_fit"
    told = visitor.text(key, name=name, needed=fit.needed_mib, free=fit.free_mib, evicts=", ".join(fit.evicts))
    other = f" {visitor.text('models.alternative', name=fit.alternative)}" if fit.alternative else ""
    return told + other + unpacks


def ledger_json(ledger: Ledger) -> dict[str, Any]:
    """The ledger as the `/models` endpoint gives it."""
    return {
        "budget_mib": ledger.budget_mib,
        "used_mib": ledger.used_mib,
        "models": [
            {
                "name": entry.name,
                "kind": entry.kind,
                "state": entry.state,
                "device": entry.device,
                "mib": entry.mib,
                "full_mib": entry.full_mib,
                "drift": asdict(entry.drift) if entry.drift else None,
                "adapters": list(entry.adapters),
                "leases": entry.leases,
            }
            for entry in ledger.models
        ],
    }
