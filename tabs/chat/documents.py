"""Documents of a chat conversation: uploaded there, searched like a collection, removed with it."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from app.chat.conversations import Conversation, Turn, conversation_from
from app.chat.request import ChatRequest
from app.chat.service import ChatService, Reply
from app.errors import BadInput
from app.knowledge.answer.answering import Answer, Question
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner
from app.knowledge.store.database import FileRecord
from tabs.shell.documents import (
    CHOOSE_FILE,
    answer_markdown,
    checked_text,
    files_view,
    owner_of,
    progress_view,
    relinked,
    said_by_model,
    sources_of,
    sources_view,
)
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded

COLLECTION = "documents"  # the one collection of a conversation
MOST_FILES = 20
Replies = Iterator[tuple[Reply, dict[str, Any]]]  # with what a reply changes of the answer's turn


class TooManyDocuments(BadInput):
    zh = "一个对话最多带 {limit} 个文件。请先移除一些，或在「知识库」里建一个集合。"
    en = "A conversation takes {limit} files at most. Remove some first, or make a collection on the Knowledge page."


class NotReady(BadInput):
    zh = "页面还没有准备好，请稍等片刻再试。"
    en = "The page is not ready yet. Try again in a moment."


@dataclass(frozen=True)
class DocumentWidgets:
    """The button and the list above the question; `timer` runs while files are read."""

    attach: gr.UploadButton
    files: gr.HTML
    timer: gr.Timer

    @property
    def shown(self) -> list[Any]:
        """What changes with the documents."""
        return [self.files, self.timer]


def draw_documents(page: Page) -> DocumentWidgets:
    """The list; the button is rendered by whoever lays out the row of buttons."""
    button = gr.UploadButton(file_count="multiple", size="sm", min_width=0, elem_id="chat-documents", render=False)
    attach = page.bind(button, label="chat.attach_documents")
    files = gr.HTML(elem_id="chat-files", js_on_load=CHOOSE_FILE)
    return DocumentWidgets(attach, files, gr.Timer(1.0, active=False))


@dataclass(frozen=True)
class Documents:
    """The service and the components that a conversation's documents are shown in."""

    service: KnowledgeService
    widgets: DocumentWidgets

    def wire(self, page: Page, kept: gr.HTML, listed: gr.HTML) -> None:
        """Uploads, removal, a deleted conversation."""
        own, shown = self.widgets, self.widgets.shown
        taken = page.on(own.attach.upload, partial(take, self), [own.attach, kept], shown)
        hold = "() => { window.studio.conversations.hold(); }"
        taken.success(None, None, None, js=hold, api_visibility="private")
        page.on(own.files.select, partial(remove, self), [kept], shown)
        page.on(own.timer.tick, partial(look, self), [kept], shown)
        page.on(listed.delete, partial(forget, self), [], [])

    def owner(self, visitor: Visitor, conversation: str) -> Owner:
        """Whose the documents are: this visitor's, in this conversation. Raises NotReady before it has an id."""
        if not conversation:
            raise NotReady
        return replace(owner_of(visitor), conversation=conversation)

    def files(self, owner: Owner) -> list[FileRecord]:
        """The files of a conversation."""
        return self.service.files(owner, COLLECTION) if self.exist(owner) else []

    def exist(self, owner: Owner) -> bool:
        """Whether a conversation was ever given a file."""
        return any(record.owner == owner.key for record in self.service.collections(owner))

    def view(self, visitor: Visitor, conversation: str) -> View:
        """The list of a conversation's files, and the clock that looks again while they are read."""
        own = self.widgets
        if not conversation:
            return {own.files: "", own.timer: gr.Timer(active=False)}
        owner = self.owner(visitor, conversation)
        job = self.service.job(owner, COLLECTION) if self.exist(owner) else None
        busy = job is not None and not job.ended  # asked before the files: one that ends in between is seen next time
        files = self.files(owner)
        listed = files_view(visitor, files, mine=True) if files else ""
        if busy:
            listed += progress_view(visitor, job, waits=self.service.waits_to_read(owner))
        return {own.files: listed, own.timer: gr.Timer(active=busy)}

    def replies(self, visitor: Visitor, conversation: str, request: ChatRequest, chat: ChatService) -> Replies:
        """Answer from the conversation's documents; where it has none, or they hold nothing on it, as the chat does."""
        told = ""
        if conversation and not request.images and self.files(owner := self.owner(visitor, conversation)):
            answered = yield from self._from_documents(visitor, owner, request)
            if answered:
                return
            told = visitor.text("chat.not_in_documents")
        for reply in chat.reply(request, visitor.name):
            yield reply, {"note": told} if told else {}

    def _from_documents(self, visitor: Visitor, owner: Owner, request: ChatRequest) -> Any:
        job = self.service.job(owner, COLLECTION)
        for _ in job.watch() if job is not None and not job.ended else ():
            yield Reply("writing"), {}  # what was dropped a moment ago is still being read
        if not any(file.state == "ready" for file in self.files(owner)):
            return False
        sampling = replace(request.sampling, max_new_tokens=max(request.sampling.max_new_tokens, 64))
        asked = Question(request.message, request.history, request.model, sampling=sampling, visitor=visitor.name)
        with closing(self.service.ask(owner, COLLECTION, asked)) as answers:  # type: ignore[type-var]
            for answer in answers:
                if answer.refused:
                    return False
                yield _reply(answer), self._changes(visitor, owner, answer, request.message)
        return True

    def _changes(self, visitor: Visitor, owner: Owner, answer: Answer, question: str) -> dict[str, Any]:
        if not answer.hits:
            return {}
        sources = sources_of(answer, question, partial(self.service.link, owner, COLLECTION))
        note = visitor.text("chat.from_documents", count=len(sources))
        return {"sources": sources, "checked": checked_text(visitor, answer), "note": note}

    def relinked(self, visitor: Visitor, conversation: Conversation) -> Conversation:
        """The conversation with links that open its sources now: those that a browser kept may have expired."""
        if not any(turn.sources for turn in conversation.turns):
            return conversation
        owner, links = self.owner(visitor, conversation.id), self.service.links
        turns = [replace(turn, sources=relinked(links, owner, COLLECTION, turn.sources)) for turn in conversation.turns]
        return replace(conversation, turns=tuple(turns))


def look(documents: Documents, visitor: Visitor, kept: object) -> View:
    """The open conversation's files as they are now."""
    return documents.view(visitor, conversation_from(kept).id)


def take(documents: Documents, visitor: Visitor, paths: object, kept: object) -> View:
    """Index what was uploaded; gradio's own copies do not stay."""
    conversation, files = conversation_from(kept).id, uploaded(paths)
    owner, service = documents.owner(visitor, conversation), documents.service
    try:
        if len({file.path for file in documents.files(owner)} | {name for _, name in files}) > MOST_FILES:
            raise TooManyDocuments(limit=MOST_FILES)
        service.start_job(owner, COLLECTION, service.index_uploads(owner, COLLECTION, files))
    finally:
        discard(path for path, _ in files)
    return documents.view(visitor, conversation)


def remove(documents: Documents, visitor: Visitor, event: gr.EventData, kept: object) -> View:
    """Take a file out."""
    conversation = conversation_from(kept).id
    documents.service.remove_files(documents.owner(visitor, conversation), COLLECTION, [event.file])
    return documents.view(visitor, conversation)


def forget(documents: Documents, visitor: Visitor, event: gr.EventData) -> None:
    """A conversation is deleted, its documents with it."""
    owner = documents.owner(visitor, conversation_from({"id": event.conversation}).id)
    if documents.files(owner):
        documents.service.delete(owner, COLLECTION)


def as_shown(visitor: Visitor, turn: Turn) -> Turn:
    """An answer from documents with its quotes, its marks and its sources under it."""
    if not turn.sources:
        return turn
    shown = answer_markdown(visitor, turn.content, turn.checked, turn.sources, turn.id)
    title = visitor.text("chat.sources", count=len(turn.sources))
    cards = sources_view(visitor, turn.sources, title, turn.id, is_open=False)
    cards = cards.replace("\n", "&#10;").replace("$", "&#36;")  # one block of HTML in which nothing is Markdown
    return replace(turn, content=f"{shown}\n\n{cards}")


def history_without_marks(turns: Sequence[Turn]) -> list[Turn]:
    """Turns as a model is told them: its own words, without marks of sources."""
    return [replace(turn, content=said_by_model(Answer(text=turn.content))) if turn.sources else turn for turn in turns]


def _reply(answer: Answer) -> Reply:
    if answer.state == "loading":
        return Reply("loading", loading=answer.loading)
    done = answer.state == "done"
    return Reply("done" if done else "writing", answer.text, finish_reason="stop" if done else None)
