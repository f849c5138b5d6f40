"""Stream answers into the open conversation: send, retry, edit, continue, stop, undo."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.chat.conversations import Conversation, Turn, conversation_from, version_of
from app.chat.request import ChatRequest, chat_request, tuned_of
from app.chat.service import ChatService, Reply
from app.errors import StudioError
from app.files import first_words
from tabs.chat.bubbles import bubbles_of, note_of, turn_at, waiting, waiting_text
from tabs.chat.documents import Documents, Replies, history_without_marks
from tabs.chat.history import Answering, idle_view, shown, told
from tabs.chat.pictures import Album, check_sight, history_of, waiting_view
from tabs.chat.widgets import ChatWidgets, can_switch
from tabs.shell.conversation import busy_box, idle_box
from tabs.shell.generators import View, Views
from tabs.shell.page import Visitor


@dataclass(frozen=True)
class Answerer:
    """Whoever answers on the chat page: the service, the widgets that show it, and the documents it may read."""

    service: ChatService
    widgets: ChatWidgets
    documents: Documents | None = None

    def send(self, visitor: Visitor, message: str, kept: object, album: Album, *options: Any) -> Views:
        """The visitor typed something."""
        before = conversation_from(kept)
        asked = Turn("user", message, pictures=album.waiting)
        return (yield from self._answer(visitor, before, before.turns, asked, album, options, sent=True))

    def send_example(self, visitor: Visitor, event: gr.SelectData, kept: object, album: Album, *options: Any) -> Views:
        """The visitor chose an example."""
        return (yield from self.send(visitor, event.value["text"], kept, album, *options))

    def retry(self, visitor: Visitor, event: gr.EventData, kept: object, album: Album, *options: Any) -> Views:
        """Answer the same question anew, with the model that is chosen now: the one of this bubble, or the last."""
        before = conversation_from(kept)
        place = turn_at(told(visitor, before.turns), _index(event)) or 0
        while place > 0 and before.turns[place].role != "user":
            place -= 1
        if not before.turns:
            return None
        answers = [turn for turn in before.turns[place + 1 : place + 2] if turn.role == "assistant"]
        new = version_of(answers[0], "") if answers else None
        earlier, asked = before.turns[:place], before.turns[place]
        return (yield from self._answer(visitor, before, earlier, asked, album, options, new=new))

    def edit(self, visitor: Visitor, event: gr.EditData, kept: object, album: Album, *options: Any) -> Views:
        """Another version of an earlier turn; what followed stays with the old one. A question is answered, about the
        same pictures; an answer waits to be continued."""
        before, words = conversation_from(kept), str(event.value)
        place = turn_at(told(visitor, before.turns), _index(event))  # gradio tells of the small print, too
        old = before.turns[place] if place is not None and before.turns else None
        if old is None or (old.role == "assistant" and words in ("", old.content)):
            return {self.widgets.resume: gr.skip()}
        if old.role == "user":
            asked = replace(version_of(old, words), pictures=old.pictures)
            return (yield from self._answer(visitor, before, before.turns[:place], asked, album, options))
        edited = replace(version_of(old, words), model=old.model, whole=False, note=visitor.text("chat.edited"))
        return idle_view(self.widgets, visitor, replace(before, turns=(*before.turns[:place], edited)))

    def go_on(self, visitor: Visitor, kept: object, album: Album, *options: Any) -> Views:
        """Write on where the last answer was cut short."""
        before = conversation_from(kept)
        if len(before.turns) < 2 or before.turns[-1].role != "assistant":
            return None
        *earlier, asked, begun = before.turns
        return (yield from self._answer(visitor, before, earlier, asked, album, options, begun=begun))

    def _answer(
        self,
        visitor: Visitor,
        before: Conversation,
        earlier: Sequence[Turn],
        question: Turn,
        album: Album,
        options: Sequence[Any],
        *,
        sent: bool = False,
        begun: Turn | None = None,
        new: Turn | None = None,
    ) -> Views:
        """Put the question on the page and stream the answer under it; on an error what was there before comes back."""
        widgets = self.widgets
        request, other = self._request(visitor, earlier, question, album, options, begun)
        turns = (*earlier, question)
        asked = bubbles_of(told(visitor, turns, writing=True))
        title = before.title or first_words(question.content)
        answering = Answering(before, replace(before, title=title, turns=turns), question, sent)
        try:
            yield {
                widgets.chatbot: [*asked, waiting(visitor.text("chat.thinking"))],
                widgets.kept: _kept(answering),
                widgets.answering: answering,
                **({} if before.title else {widgets.title: title}),  # what it was named since, the browser knows
                widgets.box: busy_box("" if sent else None),
                widgets.resume: gr.update(visible=False),
                **({} if not sent else waiting_view(widgets.pictures, replace(album, waiting=()))),
            }
            blanks = self._blanks(begun or new or Turn("assistant", ""), request, other)
            tuned = tuned_of([turn.model for turn in blanks]) if len(blanks) > 1 else ""
            streams = [
                self._replies(visitor, "" if begun else before.id, replace(request, model=turn.model, tuned=tuned))
                for turn in blanks
            ]
            for news in _latest(visitor, streams):
                known = [(blank, *one) for blank, one in zip(blanks, news, strict=True) if one]
                known.sort(key=lambda one: not _begun(*one[1:]))  # the first that writes is the answer, if it is alone
                missing = {blank.id for blank in blanks} - {blank.id for blank, *_ in known}
                first, *beside = (_without(missing, _written(visitor, question, *one)) for one in known)
                if not _begun(*known[0][1:]):
                    yield {widgets.chatbot: [*asked, waiting(first.note)]}
                else:
                    now = replace(answering.conversation, turns=(*turns, first), beside=tuple(beside))
                    answering.conversation = now
                    yield {widgets.chatbot: shown(visitor, now, writing=True), widgets.kept: _kept(answering)}
            switch = gr.update(visible=can_switch(self.service.registry.for_visitor(visitor.name), blanks[0].model))
            ended = {widgets.box: idle_box(), widgets.options.thinking: switch}  # its files may be here by now
            return idle_view(widgets, visitor, answering.conversation) | ended
        except Exception:
            yield self._ended(visitor, answering, "", album)
            raise
        finally:
            answering.closed.set()

    def _blanks(self, blank: Turn, request: ChatRequest, other: str) -> list[Turn]:
        """The answers that are to be written: one, or one of each model."""
        blank = replace(blank, model=request.model or self.service.registry.default_name)
        if not other or other == blank.model:
            return [blank]
        beside = version_of(blank, "")
        return [replace(blank, siblings=beside.siblings), replace(beside, model=other)]

    def _replies(self, visitor: Visitor, conversation: str, request: ChatRequest) -> Replies:
        if self.documents is not None:
            return self.documents.replies(visitor, conversation, request, self.service)
        return ((reply, {}) for reply in self.service.reply(request, visitor.name))

    def _request(
        self,
        visitor: Visitor,
        earlier: Sequence[Turn],
        question: Turn,
        album: Album,
        options: Sequence[Any],
        begun: Turn | None,
    ) -> tuple[ChatRequest, str]:
        """With the model that is to answer beside the first. Raises what is wrong with it before anything of the page
        has changed."""
        drawn, *values = options
        chosen = dict(zip(self.widgets.options.by_name, values, strict=True))
        chosen |= {name: None for name, value in drawn.items() if chosen[name] == value}  # the model's own
        other = "" if begun else str(chosen.pop("compare") or "")
        chosen.pop("compare", None)
        history = history_of(history_without_marks(earlier), album)
        written = "".join(turn.content for turn in history_without_marks([begun])) if begun else ""
        request = chat_request(question.content, history, **chosen, begun=written)
        for model in filter(None, (request.model or self.service.registry.default_name, other)):
            check_sight(self.service.registry.for_visitor(visitor.name), model, question.pictures)
        return replace(request, history=tuple(history), images=album.images(question.pictures)), other

    def stop(self, visitor: Visitor, answering: Answering | None, message: str, album: Album) -> View:
        """Keep what was written so far."""
        if answering is None:
            return {self.widgets.box: idle_box()}
        answering.wait()
        return self._ended(visitor, answering, message, album, visitor.text("chat.stopped"))

    def _ended(self, visitor: Visitor, answering: Answering, message: str, album: Album, word: str = "") -> View:
        """An answer ended early. What is there of it stays; if there is none, all is as before it was asked for."""
        widgets, turns = self.widgets, answering.conversation.turns
        if answering.answered:
            missing = {turn.id for turn in answering.conversation.beside if _is_empty(turn)}
            ended = [
                _without(
                    missing, turn if turn.whole else replace(turn, note=" · ".join(filter(None, (turn.note, word))))
                )
                for turn in (turns[-1], *answering.conversation.beside)
                if turn.id not in missing
            ]
            conversation = replace(answering.conversation, turns=(*turns[:-1], ended[0]), beside=tuple(ended[1:]))
            return idle_view(widgets, visitor, conversation) | {widgets.box: idle_box()}
        kept = {turn.id for turn in answering.before.turns}
        view = idle_view(widgets, visitor, answering.before, {answering.question.id} - kept)
        view |= {} if answering.before.title else {widgets.title: ""}
        if not answering.sent:
            return view | {widgets.box: idle_box()}
        box = idle_box(message or answering.question.content)
        return view | {widgets.box: box} | self._back(album, answering.question)

    def undo(self, visitor: Visitor, kept: object, album: Album) -> View:
        """Take the last question back into the box."""
        conversation = conversation_from(kept)
        turns = conversation.turns
        place = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
        question = turns[place] if turns else Turn("user", "")
        view = idle_view(self.widgets, visitor, replace(conversation, turns=turns[:place]), [question.id])
        return view | {self.widgets.box: idle_box(question.content)} | self._back(album, question)

    def _back(self, album: Album, question: Turn) -> View:
        """A question's pictures wait for the next one again."""
        waiting = tuple(dict.fromkeys((*question.pictures, *album.waiting)))
        return waiting_view(self.widgets.pictures, replace(album, waiting=waiting)) if question.pictures else {}


def _latest(visitor: Visitor, streams: Sequence[Replies]) -> Iterator[list[tuple[Reply, dict[str, Any]] | None]]:
    """The last reply of each, as they come. One that fails is told of and left out while there are others."""
    latest: list[tuple[Reply, dict[str, Any]] | None] = [None] * len(streams)
    running = dict(enumerate(streams))
    while running:
        for place, stream in list(running.items()):
            try:
                latest[place] = next(stream)
            except StopIteration:
                del running[place]
            except StudioError as error:
                del running[place]
                latest[place] = None
                if not running and not any(latest):
                    raise
                gr.Warning(error.text(visitor.language), title=visitor.text("app.error"))
        if running and any(latest):
            yield list(latest)


def _without(missing: Collection[str], answer: Turn) -> Turn:
    """The answer, without versions that have not come to be."""
    siblings = tuple(one for one in answer.siblings if one not in missing)
    return replace(answer, siblings=siblings if len(siblings) > 1 else ())


def _is_empty(answer: Turn) -> bool:
    return not (answer.content or answer.reasoning)


def _begun(reply: Reply, added: dict[str, Any]) -> bool:
    return bool(reply.text or reply.reasoning or reply.state == "done" or "sources" in added)


def _written(visitor: Visitor, question: Turn, blank: Turn, reply: Reply, added: dict[str, Any]) -> Turn:
    """The answer as far as it is written, or what it waits for; `blank` is what was there of it before."""
    if not _begun(reply, added):
        return replace(blank, note=waiting_text(visitor, reply), whole=False)
    key = "chat.thinking_for" if not reply.text and reply.state == "writing" else "chat.thought_for"
    answer = replace(
        blank,
        content=blank.content + reply.text,
        reasoning=reply.reasoning or blank.reasoning,
        thought=visitor.text(key, seconds=round(reply.thought_s)) if reply.reasoning else blank.thought,
        whole=reply.state == "done" and reply.finish_reason != "length",
        note=note_of(visitor, reply, question.content),
    )
    return replace(answer, **added)


def _kept(answering: Answering) -> dict[str, Any]:
    """What the browser stores while an answer is written: should the page go, this much of it stays."""
    *earlier, last = answering.conversation.turns
    begun = [turn for turn in answering.conversation.beside if not _is_empty(turn)]
    last, *beside = (
        replace(turn, whole=False, note="") if turn.role == "assistant" else turn for turn in (last, *begun)
    )
    return replace(answering.conversation, turns=(*earlier, last), beside=tuple(beside)).to_json() | {"writing": True}


def _index(event: gr.EventData) -> int:
    """Which bubble; the last where a button below the conversation was clicked."""
    index = (event._data or {}).get("index")
    index = index[0] if isinstance(index, list | tuple) else index
    return index if isinstance(index, int) else 10**9
