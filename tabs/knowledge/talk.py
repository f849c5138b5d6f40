"""The conversation of the knowledge tab: questions, answers with quotes and checked sentences, sources of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.blocks import Block

from app.chat.conversations import Turn
from app.knowledge.answer.answering import Answer, Question
from app.knowledge.service import KnowledgeService
from app.models.interface import Message, Sampling
from tabs.chat.bubbles import bubbles_of, waiting
from tabs.knowledge.widgets import CollectionWidgets, QuestionWidgets
from tabs.shell.conversation import busy_box, idle_box
from tabs.shell.documents import answer_markdown, checked_text, owner_of, said_by_model, sources_of, sources_view
from tabs.shell.page import Page, Visitor, cancel

MOST_KEPT = 30  # exchanges whose sources stay on the page
Updates = dict[Block, Any]


@dataclass(frozen=True)
class Exchange:
    """One question and its answer so far; every answer keeps its own sources."""

    number: int
    question: str
    collection: str
    answer: Answer = field(default_factory=Answer)


def wire_talk(page: Page, service: KnowledgeService, collections: CollectionWidgets, question: QuestionWidgets) -> None:
    """Every event that asks, stops or clears."""
    inputs = [collections.collection, question.exchanges, question.compare, question.model]
    inputs += [question.only, question.k, question.temperature]
    send_to, shown = partial(send, service, question), question.answer
    answers = [
        page.on(question.box.submit, send_to, [question.box, *inputs], shown),
        page.on(question.chatbot.example_select, partial(send_example, service, question), inputs, shown),
    ]
    for event in (collections.collection.input, collections.new.submit):
        cancel(event, answers)
    settled = [question.exchanges, question.compare]
    page.on(question.box.stop, partial(settle, service, question), settled, shown, cancels=answers)
    page.on(question.clear.click, partial(clear, question), [], shown, cancels=answers)
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
) -> Iterator[Updates]:
    """Answer what was typed, from the chosen files of the collection."""
    asked = Question(
        text,
        history=_history(exchanges),
        model=model,
        compare=compare,
        k=int(k),
        files=[int(file) for file in only or []] or None,
        sampling=sampling_of(temperature, None),
        visitor=visitor.name,
    )
    before = exchanges[-MOST_KEPT:]
    exchange = Exchange(before[-1].number + 1 if before else 1, text, collection)
    try:
        answers = service.ask(owner_of(visitor), collection, asked)
        searching = {widgets.sources: visitor.text("knowledge.searching"), widgets.box: busy_box()}
        yield _shown(widgets, visitor, [*before, exchange], compare) | searching
        shown = None
        for answer in answers:
            exchange = replace(exchange, answer=answer)
            updates = _shown(widgets, visitor, [*before, exchange], compare)
            if answer.hits is not shown or answer.state == "done":
                shown = answer.hits
                updates[widgets.sources] = _sources(service, visitor, [*before, exchange])
            yield updates
    except Exception:
        yield _shown(widgets, visitor, before, compare) | {widgets.box: idle_box(text)}
        raise
    yield {widgets.box: idle_box()}


def send_example(
    service: KnowledgeService, widgets: QuestionWidgets, visitor: Visitor, event: gr.SelectData, *values: Any
) -> Iterator[Updates]:
    """Answer an example."""
    yield from send(service, widgets, visitor, event.value["text"], *values)


def settle(
    service: KnowledgeService, widgets: QuestionWidgets, visitor: Visitor, exchanges: list[Exchange], compare: bool
) -> Updates:
    """Stopped: what was written stays, what only waited goes, the box is free."""
    kept = [replace(each, answer=replace(each.answer, state="done")) for each in exchanges]
    shown = _shown(widgets, visitor, kept, compare)
    return {**shown, widgets.sources: _sources(service, visitor, kept), widgets.box: idle_box()}


def clear(widgets: QuestionWidgets, visitor: Visitor) -> Updates:
    """A new talk about the same documents."""
    hint = visitor.text("knowledge.sources_hint")
    emptied: Updates = {widgets.exchanges: [], widgets.chatbot: [], widgets.alone: []}
    return {**emptied, widgets.sources: hint, widgets.box: idle_box()}


def show_beside(widgets: QuestionWidgets, _visitor: Visitor, compare: bool) -> Updates:
    """The column for the model's own answer, and a heading above each."""
    return dict.fromkeys(widgets.panes, gr.update(visible=compare))


def sampling_of(temperature: float, seed: int | None) -> Sampling:
    """How an answer is drawn, with the length of answers from documents."""
    given = max(0.0, min(float(temperature), 2.0))
    return replace(Question("").sampling, temperature=given, seed=None if seed is None else int(seed))


def _history(exchanges: Sequence[Exchange]) -> list[Message]:
    turns: list[Message] = []
    for exchange in exchanges:
        answer = said_by_model(exchange.answer)
        if answer:
            turns += [{"role": "user", "content": exchange.question}, {"role": "assistant", "content": answer}]
    return turns


def _sources(service: KnowledgeService, visitor: Visitor, exchanges: Sequence[Exchange]) -> str:
    """The sources of every answer, the last one's open and on top."""
    parts: list[str] = []
    for exchange in reversed(exchanges):
        link = partial(service.link, owner_of(visitor), exchange.collection)
        sources = sources_of(exchange.answer, exchange.question, link)
        parts.append(sources_view(visitor, sources, exchange.question, str(exchange.number), not parts))
    return "".join(parts) or visitor.text("knowledge.sources_hint")


def _shown(widgets: QuestionWidgets, visitor: Visitor, exchanges: list[Exchange], compare: bool) -> Updates:
    """Both chatbots: the whole talk, and the last question with the model's own answer."""
    bubbles = [bubble for exchange in exchanges for bubble in _bubbles(visitor, exchange)]
    alone: list[dict[str, Any]] = []
    if compare and exchanges:
        last = exchanges[-1]
        own = last.answer.alone
        alone = bubbles_of([Turn("user", last.question), *([Turn("assistant", own)] if own else [])])
        alone += [] if own or last.answer.state == "done" else [waiting(_waiting_text(visitor, last.answer))]
    return {widgets.exchanges: exchanges, widgets.chatbot: bubbles, widgets.alone: alone}


def _bubbles(visitor: Visitor, exchange: Exchange) -> list[dict[str, Any]]:
    answer = exchange.answer
    note = visitor.text("knowledge.searched_for", query=answer.searched_for)
    note = note if answer.searched_for not in ("", exchange.question) else ""
    bubbles = bubbles_of([Turn("user", exchange.question)])
    if answer.text or answer.quotes:
        sources = sources_of(answer, exchange.question, lambda _hit, _spans: "")
        checked = checked_text(visitor, answer)
        shown = answer_markdown(visitor, answer.text, checked, sources, str(exchange.number), answer.cites)
        bubbles += bubbles_of([Turn("assistant", shown, note)])
    if not answer.text and answer.state != "done":
        bubbles.append(waiting(_waiting_text(visitor, answer)))
    return bubbles


def _waiting_text(visitor: Visitor, answer: Answer) -> str:
    if answer.state == "loading":
        percent = "" if answer.loading is None else f" {round(answer.loading * 100)}%"
        return visitor.text("knowledge.loading") + percent
    return visitor.text("knowledge.rewriting" if answer.state == "rewriting" else "knowledge.reading")
