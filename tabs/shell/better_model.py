"""Card on every page while the packaged model runs: better models for this machine, downloaded in one click."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app.models.better_model import BetterModel, Fetching, Offer
from app.models.catalog import known_models
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor

EVERY_S = 1.0
UNDER_WAY = ("downloading", "loading", "parked")


@dataclass(frozen=True)
class Card:
    """The button in the header and what it opens. `chosen` are the model lists that follow a new default."""

    opener: gr.Button
    panel: gr.Column
    what: gr.HTML
    offers: gr.Radio
    start: gr.Button
    stop: gr.Button
    told: gr.HTML
    clock: gr.Timer
    chosen: Sequence[gr.Dropdown]

    @property
    def view(self) -> list[Any]:
        return [self.opener, self.what, self.offers, self.start, self.stop, self.told, self.clock, *self.chosen]


def draw_opener() -> gr.Button:
    """In the header, hidden until something better can be offered; studio.js opens and closes the card."""
    opener = gr.Button(elem_id="better-open", size="sm", min_width=0, visible=False)
    opener.click(None, js="() => window.studio.better()", api_visibility="private")
    return opener


def draw_card(page: Page, better: BetterModel, opener: gr.Button) -> None:
    """Below the header, over the page; without `better` models there is none."""
    with gr.Column(elem_id="better", visible=False) as panel:
        what = gr.HTML(elem_id="better-what")
        offers = page.bind(gr.Radio([], elem_id="better-offers", visible=False), label="better.offers")
        told = gr.HTML(elem_id="better-told")
        with gr.Row(elem_id="better-buttons"):
            start = page.bind(gr.Button(variant="primary", size="sm", elem_id="better-start"), value="better.start")
            stop = page.bind(gr.Button(size="sm", visible=False, elem_id="better-stop"), value="better.stop")
            close = page.bind(gr.Button(size="sm", elem_id="better-close"), value="better.close")
    clock = gr.Timer(EVERY_S, active=False)
    close.click(None, js="() => window.studio.better(false)", api_visibility="private")
    card = Card(opener, panel, what, offers, start, stop, told, clock, page.following)
    page.on_arrival(partial(arrive, better, card), [], [*card.view, panel])
    page.on(start.click, partial(begin, better, card), [offers], card.view)
    page.on(stop.click, partial(end, better, card), [], card.view)
    page.on(clock.tick, partial(watch, better, card, page.blocks), list(card.chosen), card.view)


def arrive(better: BetterModel, card: Card, visitor: Visitor) -> View:
    """What this machine could run, or how the model comes that was asked for."""
    fetching = better.fetching()
    if not better.needed and fetching is None:
        return {card.panel: gr.update(visible=False), card.opener: gr.update(visible=False)}
    offers, hub = better.offers(), better.hub_answers()
    usable = [offer for offer in offers if hub or offer.is_here]
    view: View = {
        card.panel: gr.update(visible=True),
        card.opener: gr.update(visible=True, value=visitor.text("better.open")),
        card.what: _what(visitor, bool(usable), better.hub_host),
        card.offers: gr.update(
            choices=[(_label(visitor, offer), offer.name) for offer in usable],
            value=fetching.name if fetching else usable[0].name if usable else None,
            visible=bool(usable),
        ),
        card.start: gr.update(visible=bool(usable)),
    }
    return view | (_progress(card, visitor, fetching) if fetching else {})


def begin(better: BetterModel, card: Card, visitor: Visitor, name: str | None) -> View:
    """Download the chosen one."""
    if name not in {offer.name for offer in better.offers()}:
        return {card.clock: gr.skip()}
    better.start(str(name))
    return _progress(card, visitor, Fetching(str(name), "downloading", 0.0))


def end(better: BetterModel, card: Card, visitor: Visitor) -> View:
    """What has come stays."""
    better.stop()
    return _idle(card, visitor.text("better.stopped"), visitor)


def watch(better: BetterModel, card: Card, blocks: gr.Blocks, visitor: Visitor, *chosen: str) -> View:
    """How far it is; once it is ready every list that had the packaged model turns to it."""
    fetching = better.fetching()
    if fetching is None:
        return {card.clock: gr.update(active=False)}
    if fetching.state != "ready":
        return _progress(card, visitor, fetching)
    for choice in card.chosen:
        choice.value = fetching.name
    blocks.config = blocks.get_config_file()  # what the next page begins with
    told = visitor.text("better.ready", name=fetching.name)
    turned: View = {
        choice: gr.update(value=fetching.name)
        for choice, name in zip(card.chosen, chosen, strict=True)
        if known_models.is_packaged(name or "")
    }
    shown = {card.what: "", card.offers: gr.update(visible=False), card.start: gr.update(visible=False)}
    return _idle(card, told, visitor) | turned | shown


def _idle(card: Card, told: str, visitor: Visitor) -> View:
    return {
        card.opener: gr.update(value=visitor.text("better.open")),
        card.start: gr.update(visible=True),
        card.stop: gr.update(visible=False),
        card.told: f"<p role='status'>{told}</p>",
        card.clock: gr.update(active=False),
    }


def _progress(card: Card, visitor: Visitor, fetching: Fetching) -> View:
    if fetching.state not in UNDER_WAY:
        reason = fetching.reason_zh if visitor.language == "zh" else fetching.reason_en
        key = "better.failed" if fetching.state == "failed" else "better.stopped"
        return _idle(card, visitor.text(key, name=fetching.name, reason=reason), visitor)
    percent = round(100 * fetching.progress)
    said = visitor.text(f"better.{fetching.state}", name=fetching.name, percent=percent)
    bar = f'<div class="bar"><i style="width:{percent}%"></i></div>'
    return {
        card.opener: gr.update(value=visitor.text("better.open_percent", percent=percent)),
        card.start: gr.update(visible=False),
        card.stop: gr.update(visible=True),
        card.told: f"{bar}<p>{said}</p>",
        card.clock: gr.update(active=True),
    }


def _what(visitor: Visitor, offered: bool, host: str) -> str:
    more = visitor.text("better.why") if offered else visitor.text("better.bring", host=host)
    return f"<h2>{visitor.text('better.title')}</h2><p>{visitor.text('better.what')}</p><p>{more}</p>"


def _label(visitor: Visitor, offer: Offer) -> str:
    note = offer.note_zh if visitor.language == "zh" else offer.note_en
    size = f"{offer.mib / 1024:.1f} GiB"
    speed = f"{offer.tokens_per_second:.0f}" if offer.tokens_per_second >= 2 else f"{offer.tokens_per_second:.1f}"
    facts = visitor.text("better.facts", size=size, speed=speed, licence=offer.licence)
    here = f" · {visitor.text('app.model_states.on_disk')}" if offer.is_here else ""
    return f"{offer.name} · {note} · {facts}{here}"
