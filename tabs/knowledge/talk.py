"""Event handlers of the knowledge tab's conversation: ask, stream the checked answer with sources, stop, restore."""

from dataclasses import asdict, replace
from functools import partial
from secrets import token_hex
from typing import Any

import gradio as gr

from app.knowledge.answer.answering import Answer, Question
from app.knowledge.service import KnowledgeService
from app.models.interface import Sampling
from tabs.knowledge.exchanges import MOST_SHOWN, Exchange, alone_bubbles, history_of, talk_bubbles, talk_sources
from tabs.knowledge.widgets import CollectionWidgets, QuestionWidgets
from tabs.shell.conversation import busy_box, idle_box
from tabs.shell.documents import checked_text, owner_of, sources_of
from tabs.shell.generators import View, Views
from tabs.shell.page import Page, Visitor, cancel


def wire_talk(page: Page, service: KnowledgeService, collections: CollectionWidgets, question: QuestionWidgets) -> None:
    """Every event that asks, stops or clears."""
    inputs = [collections.collection, question.exchanges, question.compare, question.model]
    inputs += [question.only, question.k, question.temperature]
    send_to, shown = partial(send, service, question), question.answer
    answers = [
        page.on(question.box.submit, send_to, [question.box, *inputs], shown),
        page.on(question.chatbot.example_select, partial(send_example, service, question), inputs, shown),
    ]
    changes = (collections.collection.input, collections.new.submit, collections.delete.click, question.kept.select)
    for event in changes:
        cancel(event, answers)
    page.on(question.box.stop, partial(settle, question), [question.exchanges], shown, cancels=answers)
    page.on(question.clear.click, partial(begin_anew, question), [collections.collection], shown, cancels=answers)
    page.on(question.compare.change, partial(show_beside, question), [question.compare], question.panes)


def send(
    service: KnowledgeService,
    widgets: QuestionWidgets,
    visitor: Visitor,
    text: str,
    collection: str,
    exchanges: list[Exchange],
    compare: bool,
    model: str,
    only: list[int] | None,
    k: int,
    temperature: float,
) -> Views:
    """Answer what was typed, from the chosen files of the collection."""
    asked = Question(
        text,
        history=history_of(exchanges),
        model=model,
        compare=compare,
        k=int(k),
        files=[int(file) for file in only or []] or None,
        sampling=sampling_of(temperature, None),
        visitor=visitor.name,
    )
    before = exchanges[1 - MOST_SHOWN :]
    exchange = Exchange(text, collection, before[-1].talk if before else token_hex(8))
    link = partial(service.link, owner_of(visitor), collection)
    found: tuple[object, ...] = ()
    try:
        answers = service.ask(owner_of(visitor), collection, asked)
        searching = {widgets.sources: visitor.text("knowledge.searching"), widgets.box: busy_box()}
        yield _shown(widgets, visitor, [*before, exchange], visitor.text("knowledge.reading")) | searching
        for answer in answers:
            exchange = _continued(visitor, exchange, answer)
            news = (answer.hits, answer.quotes, answer.verdicts) != found
            if news:
                found = (answer.hits, answer.quotes, answer.verdicts)
                exchange = replace(exchange, sources=sources_of(answer, text, link))
            awaited = "" if exchange.whole else _waiting_text(visitor, answer)
            updates = _shown(widgets, visitor, [*before, exchange], awaited)
            if news or exchange.whole:
                updates[widgets.sources] = talk_sources(visitor, [*before, exchange])
            yield updates
    except Exception:
        forgotten = {widgets.kept: {"collection": collection, "forget": exchange.id}}
        there = {widgets.sources: talk_sources(visitor, before), widgets.box: idle_box(text)}
        yield _shown(widgets, visitor, before) | forgotten | there
        raise
    return {widgets.box: idle_box()}


def send_example(
    service: KnowledgeService, widgets: QuestionWidgets, visitor: Visitor, event: gr.SelectData, *values: Any
) -> Views:
    """Answer an example."""
    return (yield from send(service, widgets, visitor, event.value["text"], *values))


def settle(widgets: QuestionWidgets, visitor: Visitor, exchanges: list[Exchange]) -> View:
    """Stopped: what was written stays, what only waited goes, the box is free."""
    return restored(widgets, visitor, exchanges) | _kept(widgets, exchanges) | {widgets.box: idle_box()}


def restored(widgets: QuestionWidgets, visitor: Visitor, exchanges: list[Exchange]) -> View:
    """A talk to which nothing is being written; a question whose answer was broken off can be sent again."""
    again = exchanges[-1].question if exchanges and not exchanges[-1].whole else None
    shown = _shown(widgets, visitor, exchanges)
    del shown[widgets.kept]
    return shown | {widgets.sources: talk_sources(visitor, exchanges), widgets.box: idle_box(again)}


def begin_anew(widgets: QuestionWidgets, visitor: Visitor, collection: str) -> View:
    """A new talk about the same documents; the others stay in their list."""
    fresh = {widgets.kept: {"collection": collection, "fresh": token_hex(8)}}
    return restored(widgets, visitor, []) | fresh | {widgets.box: idle_box()}


def show_beside(widgets: QuestionWidgets, _visitor: Visitor, compare: bool) -> View:
    """The column for the model's own answer, and a heading above each."""
    return dict.fromkeys(widgets.panes, gr.update(visible=compare))


def sampling_of(temperature: float, seed: int | None) -> Sampling:
    """How an answer is drawn, with the length of answers from documents."""
    given = max(0.0, min(float(temperature), 2.0))
    return replace(Question("").sampling, temperature=given, seed=None if seed is None else int(seed))


def _continued(visitor: Visitor, exchange: Exchange, answer: Answer) -> Exchange:
    return replace(
        exchange,
        text=answer.text,
        checked=checked_text(visitor, answer),
        alone=answer.alone,
        searched_for=answer.searched_for,
        cites=answer.cites,
        whole=answer.state == "done",
    )


def _shown(widgets: QuestionWidgets, visitor: Visitor, exchanges: list[Exchange], awaited: str = "") -> View:
    """Both chatbots: the whole talk, and the last question with the model's own answer."""
    return {
        widgets.exchanges: exchanges,
        widgets.chatbot: talk_bubbles(visitor, exchanges, awaited),
        widgets.alone: alone_bubbles(exchanges, awaited),
        **_kept(widgets, exchanges),
    }


def _kept(widgets: QuestionWidgets, exchanges: list[Exchange]) -> View:
    last = asdict(exchanges[-1]) if exchanges else None
    return {widgets.kept: {"collection": last["collection"], "exchange": last} if last else gr.skip()}


def _waiting_text(visitor: Visitor, answer: Answer) -> str:
    if answer.state == "loading":
        percent = "" if answer.loading is None else f" {round(answer.loading * 100)}%"
        return visitor.text("knowledge.loading") + percent
    return visitor.text("knowledge.rewriting" if answer.state == "rewriting" else "knowledge.reading")
