"""Knowledge tab: ask documents, with sources; endpoints `/index`, `/search`, `/ask`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.chat.conversations import Turn
from app.knowledge.answer.answering import Answer, Question
from app.knowledge.service import SAMPLES, KnowledgeService
from app.models.interface import Message, Registry, Sampling, SamplingDefaults
from tabs.chat.bubbles import bubbles_of, turns_of, waiting
from tabs.knowledge.collections import CollectionsPanel, Updates
from tabs.knowledge.view import answer_text, owner_of, plain, plain_progress, sources_view
from tabs.knowledge.widgets import CollectionWidgets, QuestionWidgets, draw
from tabs.shell.conversation import busy_box, idle_box
from tabs.shell.page import Page, Visitor, cancel
from tabs.shell.upload_cleanup import discard, uploaded


def build(page: Page, service: KnowledgeService, registry: Registry, tab: gr.Tab) -> None:
    """Draw the tab, wire it, publish `/index`, `/search` and `/ask`."""
    collections, question = draw(page, registry)
    CollectionsPanel(service, collections, question).wire(page, tab)
    _wire_talk(page, service, collections, question)
    page.api(partial(index, service), "index")
    page.api(partial(search, service), "search")
    page.api(partial(ask, service), "ask")


def index(service: KnowledgeService, visitor: Visitor, collection: str, files: Any) -> Iterator[dict[str, Any]]:
    """Index uploaded files, or a folder of the server where that is allowed; each value is how far it is."""
    owner = owner_of(visitor)
    if isinstance(files, str):
        steps = service.index_folder(owner, collection, Path(files).expanduser())
    else:
        taken = uploaded(files)
        try:
            steps = service.index_uploads(owner, collection, taken)
        finally:
            discard(path for path, _ in taken)
    job = service.start_job(owner, collection, steps)
    try:
        for progress in job.watch():
            yield plain_progress(visitor, progress)
    finally:
        job.stop()


def search(
    service: KnowledgeService, visitor: Visitor, collection: str, query: str, k: int = 5
) -> list[dict[str, Any]]:
    """The best passages of a collection for a query."""
    return [plain(hit) for hit in service.search(owner_of(visitor), collection, query, int(k))]


def ask(
    service: KnowledgeService,
    visitor: Visitor,
    question: str,
    collection: str = SAMPLES,
    history: list[dict[str, str]] | None = None,
    model: str | None = None,
    use_documents: bool = True,
    k: int = 5,
    temperature: float = SamplingDefaults.temperature,
    seed: int | None = None,
) -> Iterator[list[Any]]:
    """Answer from a collection; each value is the answer so far and its passages as `/search` gives them."""
    asked = Question(
        question,
        history=_turns(history or []),
        model=model or "",
        use_documents=use_documents,
        k=int(k),
        sampling=_sampling(temperature, seed),
        visitor=visitor.name,
    )
    yield ["", []]  # gradio forgets a cancel that comes before the first value, and hears others only between two
    for answer in service.ask(owner_of(visitor), collection, asked):
        text = answer_text(visitor, answer) if use_documents else answer.alone
        yield [text, [plain(hit) for hit in answer.hits]]


def _wire_talk(
    page: Page, service: KnowledgeService, collections: CollectionWidgets, question: QuestionWidgets
) -> None:
    inputs = [collections.collection, question.chatbot, question.compare, question.model]
    inputs += [question.only, question.k, question.temperature]
    send_to, shown = partial(send, service, question), question.answer
    answers = [
        page.on(question.box.submit, send_to, [question.box, *inputs], shown),
        page.on(question.chatbot.example_select, partial(send_example, service, question), inputs, shown),
    ]
    for event in (collections.collection.input, collections.new.submit):
        cancel(event, answers)
    settled = [question.chatbot, question.alone]
    page.on(question.box.stop, partial(settle, question), settled, [*settled, question.box], cancels=answers)
    page.on(question.clear.click, partial(clear, question), [], shown, cancels=answers)
    page.on(question.compare.change, show_beside, [question.compare], [question.beside])


def send(
    service: KnowledgeService,
    widgets: QuestionWidgets,
    visitor: Visitor,
    text: str,
    collection: str,
    bubbles: list[Any],
    compare: bool,
    model: str,
    only: list[int] | None,
    k: int,
    temperature: float,
) -> Iterator[Updates]:
    """Answer what was typed, from the chosen files of the collection."""
    turns = [turn for turn in turns_of(bubbles) if turn.content]
    asked = Question(
        text,
        history=[{"role": turn.role, "content": turn.content} for turn in turns],  # type: ignore[typeddict-item]
        model=model,
        compare=compare,
        k=int(k),
        files=[int(file) for file in only or []] or None,
        sampling=_sampling(temperature, None),
        visitor=visitor.name,
    )
    talk = [*turns, Turn("user", text)]
    try:
        answers = service.ask(owner_of(visitor), collection, asked)
        searching = {widgets.sources: visitor.text("knowledge.searching"), widgets.box: busy_box()}
        yield _talk(widgets, visitor, talk, Answer(), compare) | searching
        shown = None
        for answer in answers:
            updates = _talk(widgets, visitor, talk, answer, compare)
            if answer.hits is not shown or answer.state == "done":
                shown = answer.hits
                updates[widgets.sources] = sources_view(visitor, service, collection, text, answer)
            yield updates
    except Exception:
        yield {widgets.chatbot: bubbles_of(turns), widgets.box: idle_box(text)}
        raise
    yield {widgets.box: idle_box()}


def send_example(
    service: KnowledgeService, widgets: QuestionWidgets, visitor: Visitor, event: gr.SelectData, *values: Any
) -> Iterator[Updates]:
    """Answer an example."""
    yield from send(service, widgets, visitor, event.value["text"], *values)


def settle(widgets: QuestionWidgets, _visitor: Visitor, bubbles: list[Any], alone: list[Any]) -> Updates:
    """Stopped: what was written stays, what only waited goes, the box is free."""
    kept: Updates = {widgets.chatbot: bubbles_of(turns_of(bubbles)), widgets.alone: bubbles_of(turns_of(alone))}
    return {**kept, widgets.box: idle_box()}


def clear(widgets: QuestionWidgets, visitor: Visitor) -> Updates:
    """A new talk about the same documents."""
    hint = visitor.text("knowledge.sources_hint")
    return {widgets.chatbot: [], widgets.alone: [], widgets.sources: hint, widgets.box: idle_box()}


def show_beside(_visitor: Visitor, compare: bool) -> dict[str, Any]:
    """The column for the model's own answer."""
    return gr.update(visible=compare)


def _talk(widgets: QuestionWidgets, visitor: Visitor, turns: Sequence[Turn], answer: Answer, compare: bool) -> Updates:
    """Both chatbots: the talk with the answer so far, and the last question with the model's own."""
    note = visitor.text("knowledge.searched_for", query=answer.searched_for)
    note = note if answer.searched_for not in ("", turns[-1].content) else ""
    wait = [] if answer.state == "done" else [waiting(_waiting_text(visitor, answer))]
    written = bubbles_of([Turn("assistant", answer_text(visitor, answer), note)]) if answer.text else wait
    own = bubbles_of([Turn("assistant", answer.alone)]) if answer.alone else wait
    return {
        widgets.chatbot: [*bubbles_of(turns), *written],
        widgets.alone: [*bubbles_of(turns[-1:]), *own] if compare else [],
    }


def _waiting_text(visitor: Visitor, answer: Answer) -> str:
    if answer.state == "loading":
        percent = "" if answer.loading is None else f" {round(answer.loading * 100)}%"
        return visitor.text("knowledge.loading") + percent
    return visitor.text("knowledge.rewriting" if answer.state == "rewriting" else "knowledge.reading")


def _turns(history: Sequence[Any]) -> list[Message]:
    """Turns of a program's history; anything else in it is left out."""
    return [
        {"role": turn["role"], "content": str(turn.get("content", ""))}
        for turn in history
        if isinstance(turn, dict) and turn.get("role") in ("user", "assistant")
    ]


def _sampling(temperature: float, seed: int | None) -> Sampling:
    given = max(0.0, min(float(temperature), 2.0))
    return replace(Question("").sampling, temperature=given, seed=None if seed is None else int(seed))
