"""The knowledge tab: documents in, questions answered from them with sources; `/index`, `/search`, `/ask`."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.chat.conversations import Turn
from app.knowledge.answer.answering import Answer, Question
from app.knowledge.service import SAMPLES, KnowledgeService
from app.models.interface import Message, Registry, Sampling
from tabs.chat.bubbles import bubbles_of, turns_of, waiting
from tabs.knowledge.collections import wire_shelf
from tabs.knowledge.view import answer_text, owner_of, plain, plain_progress, sources_view
from tabs.knowledge.widgets import CollectionsView, QuestionView, draw
from tabs.shell.conversation import busy_box, idle_box
from tabs.shell.page import Page, Visitor, cancel
from tabs.shell.upload_cleanup import discard, uploaded

LONGEST_ANSWER = 400
View = list[Any]  # chatbot, the model alone, sources, box


def build(page: Page, service: KnowledgeService, registry: Registry, tab: gr.Tab) -> None:
    """Draw the tab, wire it, publish `/index`, `/search` and `/ask`."""
    shelf, desk = draw(page, registry)
    wire_shelf(page, service, shelf, desk, tab)
    _wire_talk(page, service, shelf, desk)
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
    temperature: float = Sampling.temperature,
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


def _wire_talk(page: Page, service: KnowledgeService, shelf: CollectionsView, desk: QuestionView) -> None:
    inputs = [shelf.collection, desk.chatbot, desk.compare, desk.model, desk.only, desk.k, desk.temperature]
    answers = [
        page.on(desk.box.submit, partial(send, service), [desk.box, *inputs], desk.view),
        page.on(desk.chatbot.example_select, partial(send_example, service), inputs, desk.view),
    ]
    for event in (shelf.collection.input, shelf.new.submit):
        cancel(event, answers)
    settled = [desk.chatbot, desk.alone]
    page.on(desk.box.stop, settle, settled, [*settled, desk.box], cancels=answers)
    page.on(desk.clear.click, clear, [], desk.view, cancels=answers)
    page.on(desk.compare.change, show_beside, [desk.compare], [desk.beside])


def send(
    service: KnowledgeService,
    visitor: Visitor,
    text: str,
    collection: str,
    bubbles: list[Any],
    compare: bool,
    model: str,
    only: list[int] | None,
    k: int,
    temperature: float,
) -> Iterator[View]:
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
    question = Turn("user", text)
    try:
        answers = service.ask(owner_of(visitor), collection, asked)
        busy = busy_box()
        yield [*_talk(visitor, [*turns, question], Answer(), compare), visitor.text("knowledge.searching"), busy]
        shown = None
        for answer in answers:
            if answer.hits is not shown or answer.state == "done":
                shown = answer.hits
                sources: Any = sources_view(visitor, service, collection, text, answer)
            else:
                sources = gr.skip()
            yield [*_talk(visitor, [*turns, question], answer, compare), sources, gr.skip()]
    except Exception:
        yield [bubbles_of(turns), gr.skip(), gr.skip(), idle_box(text)]
        raise
    yield [gr.skip(), gr.skip(), gr.skip(), idle_box()]


def send_example(service: KnowledgeService, visitor: Visitor, event: gr.SelectData, *values: Any) -> Iterator[View]:
    """Answer an example."""
    yield from send(service, visitor, event.value["text"], *values)


def settle(_visitor: Visitor, bubbles: list[Any], alone: list[Any]) -> View:
    """Stopped: what was written stays, what only waited goes, the box is free."""
    return [bubbles_of(turns_of(bubbles)), bubbles_of(turns_of(alone)), idle_box()]


def clear(visitor: Visitor) -> View:
    """A new talk about the same documents."""
    return [[], [], visitor.text("knowledge.sources_hint"), idle_box()]


def show_beside(_visitor: Visitor, compare: bool) -> dict[str, Any]:
    """The column for the model's own answer."""
    return gr.update(visible=compare)


def _talk(visitor: Visitor, turns: Sequence[Turn], answer: Answer, compare: bool) -> View:
    """Both chatbots: the talk with the answer so far, and the last question with the model's own."""
    note = visitor.text("knowledge.searched_for", query=answer.searched_for)
    note = note if answer.searched_for not in ("", turns[-1].content) else ""
    wait = [] if answer.state == "done" else [waiting(_waiting_text(visitor, answer))]
    written = bubbles_of([Turn("assistant", answer_text(visitor, answer), note)]) if answer.text else wait
    own = bubbles_of([Turn("assistant", answer.alone)]) if answer.alone else wait
    return [[*bubbles_of(turns), *written], [*bubbles_of(turns[-1:]), *own] if compare else []]


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
    return Sampling(
        temperature=max(0.0, min(float(temperature), 2.0)),
        max_new_tokens=LONGEST_ANSWER,
        seed=None if seed is None else int(seed),
    )
