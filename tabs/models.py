"""The models panel: what is loaded and how much memory it holds, live; load, unload, whether a model will fit, and
how far a quantised one drifts."""

from dataclasses import asdict
from functools import partial
from typing import Any

import gradio as gr

from app.errors import Language, StudioError
from app.models.interface import Ledger, Registry
from tabs.ledger_view import ledger_html
from tabs.model_choice import model_choice
from tabs.page import Page, Visitor

EVERY_S = 1.5


def build(page: Page, registry: Registry, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Draw the panel and publish `/models`. The ledger is read again only while the tab is open."""
    with gr.Column(elem_id="models"):
        ledger = page.bind(gr.HTML(elem_id="ledger", padding=False), value=partial(_drawn, registry))
        with gr.Row(elem_id="models-bar"):
            choice = model_choice(page, registry, "models.choose", scale=3, info="models.choose_info")
            load = page.bind(gr.Button(variant="primary", scale=0, min_width=110), value="models.load")
            unload = page.bind(gr.Button(scale=0, min_width=110), value="models.unload")
            check = page.bind(gr.Button(scale=0, min_width=110), value="models.check_drift")
        fit = gr.Markdown(elem_id="models-fit")
    clock = gr.Timer(EVERY_S, active=False)
    page.on(clock.tick, partial(refresh, registry), [ledger], [ledger])
    page.on(tabs.select, partial(watch, tab.id), [], [clock])
    page.on(choice.change, partial(will_fit, registry), [choice], [fit])
    page.on(tab.select, partial(open_panel, registry), [choice], [ledger, fit])
    for button, deed in ((load, act_load), (unload, act_unload)):
        page.on(button.click, partial(deed, registry), [choice], [ledger, fit])
    page.on(check.click, partial(check_drift, registry), [choice], [ledger, fit])
    page.api(partial(models, registry), "models")


def models(registry: Registry, visitor: Visitor) -> dict[str, Any]:
    """The memory ledger of the server."""
    return ledger_json(registry.seen_by(visitor.name).ledger())


def refresh(registry: Registry, visitor: Visitor, shown: str) -> Any:
    """The ledger as it is now; nothing is sent while nothing changes."""
    drawn = ledger_html(registry.seen_by(visitor.name).ledger(), visitor.language)
    return gr.skip() if drawn == shown else drawn


def watch(own: object, _visitor: Visitor, event: gr.SelectData) -> dict[str, Any]:
    """Another tab was opened, perhaps ours."""
    return gr.update(active=event.id == own)


def open_panel(registry: Registry, visitor: Visitor, name: str) -> list[str]:
    """What the panel shows when it is opened."""
    return [ledger_html(registry.seen_by(visitor.name).ledger(), visitor.language), will_fit(registry, visitor, name)]


def act_load(registry: Registry, visitor: Visitor, name: str) -> list[str]:
    """Start loading."""
    registry.seen_by(visitor.name).load(name)
    return open_panel(registry, visitor, name)


def act_unload(registry: Registry, visitor: Visitor, name: str) -> list[str]:
    """Give the memory back, or end a download."""
    registry.seen_by(visitor.name).unload(name)
    return open_panel(registry, visitor, name)


def check_drift(registry: Registry, visitor: Visitor, name: str) -> list[str]:
    """Compare a quantised model with itself at full precision."""
    registry = registry.seen_by(visitor.name)
    drift = registry.check_drift(name)
    figures = {"kl": f"{drift.mean_kl:.4f}", "same": f"{drift.same_choice:.0%}", "places": drift.places}
    return [ledger_html(registry.ledger(), visitor.language), visitor.text("models.drift_told", name=name, **figures)]


def will_fit(registry: Registry, visitor: Visitor, name: str) -> str:
    """Whether a model fits or is there, and what its kind of files costs."""
    registry = registry.seen_by(visitor.name)
    try:
        fit = registry.fit(name)
    except StudioError as error:
        return error.text(visitor.language)
    if not fit.needed_mib:
        return visitor.text("models.is_far", name=name)
    unpacks = f" {visitor.text('models.unpacks', name=name)}" if fit.unpacks else ""
    held = next((entry for entry in registry.ledger().models if entry.name == name), None)
    if held and held.state == "ready":
        return visitor.text("models.is_loaded", name=name, mib=held.mib + held.cache_mib) + unpacks
    key = "models.fits_after" if fit.evicts else "models.fits" if fit.fits else "models.does_not_fit"
    evicts = ", ".join(fit.evicts)
    return visitor.text(key, name=name, needed=fit.needed_mib, free=fit.free_mib, evicts=evicts) + unpacks


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


def _drawn(registry: Registry, language: Language) -> str:
    return ledger_html(registry.seen_by("").ledger(), language)
