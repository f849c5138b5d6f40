"""Story service: write stories, edit paragraphs, draft bible and outline; stateless."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from app.errors import Language
from app.models.interface import ChatModel, Message, Registry, Sampling
from app.models.waiting import polled, while_loading
from app.story.bible import Bible, Pinned, budget_of, parse_bible, pin
from app.story.draft import Draft
from app.story.errors import NoParagraph
from app.story.outline import Chapter, chapters_for, parse_outline
from app.story.paragraphs import Action, Reworking
from app.story.prompts import bible_messages, outline_messages, user
from app.story.request import StoryRequest
from app.story.steering import PACE_S
from app.story.telling import StoryWriter, Writing

DRAFT_TOKENS = 600
DRAFT_TEMPERATURE = 0.4
USUAL_CONTEXT = 8192  # assumed while a model's own is not known


@dataclass(frozen=True)
class StoryService:
    """Everything the story page and `/story` ask for."""

    registry: Registry

    def tell(self, request: StoryRequest, visitor: str = "") -> Iterator[Writing]:
        """The story as it grows; closing the iterator stops the model.

        A long story without an outline gets one first.
        """
        name = request.model or self.registry.default_name
        yield from self.loading(name, visitor)
        with self.registry.for_visitor(visitor).lease(name) as model:
            StoryWriter(model, request, visitor)  # refuses what does not fit, before an outline is drafted
            count = chapters_for(request.length, request.language)
            if count > 1 and not request.outline:
                drafted: tuple[Chapter, ...] = ()
                for chapters in self._outline(model, request, count, visitor):
                    drafted = chapters
                    yield Writing("writing", model=name)
                if len(drafted) > 1:
                    request = replace(request, outline=drafted)
            yield from StoryWriter(model, request, visitor).tell()

    def rework(
        self, request: StoryRequest, draft: Draft, place: int, action: Action, wish: str = "", visitor: str = ""
    ) -> Iterator[Draft]:
        """The draft while one of its paragraphs is worked on."""
        if not draft.is_text(place):
            raise NoParagraph
        name = request.model or self.registry.default_name
        for _ in self.loading(name, visitor):
            yield draft
        with self.registry.for_visitor(visitor).lease(name) as model:
            yield from Reworking(model, request, draft, place, action, wish, visitor).run()

    def draft_bible(self, request: StoryRequest, visitor: str = "") -> Iterator[Bible]:
        """Synopsis, characters and facts as the model proposes them, filling up as it writes."""
        name = request.model or self.registry.default_name
        for _ in self.loading(name, visitor):
            yield Bible()
        with self.registry.for_visitor(visitor).lease(name) as model:
            for text in self._draft(model, bible_messages(request), request, visitor):
                yield parse_bible(text)

    def draft_outline(self, request: StoryRequest, visitor: str = "") -> Iterator[tuple[Chapter, ...]]:
        """Chapters as the model proposes them, at least two."""
        name = request.model or self.registry.default_name
        for _ in self.loading(name, visitor):
            yield ()
        with self.registry.for_visitor(visitor).lease(name) as model:
            count = max(2, chapters_for(request.length, request.language))
            yield from self._outline(model, request, count, visitor)

    def pinned(self, bible: Bible, model: str, language: Language, visitor: str = "") -> Pinned:
        """What of a bible a model is given; counted by its tokenizer if it is loaded, else estimated."""
        name = model or self.registry.default_name
        public = self.registry.public_name(name)
        loaded = any(entry.name == public and entry.state == "ready" for entry in self.registry.ledger().models)
        if not loaded:
            return pin(bible, language, _estimate, budget_of(USUAL_CONTEXT))
        with self.registry.for_visitor(visitor).lease(name) as leased:
            empty = leased.count_tokens([user("")])
            return pin(
                bible,
                language,
                lambda text: leased.count_tokens([user(text)]) - empty,
                budget_of(leased.context_tokens),
            )

    def loading(self, name: str, visitor: str) -> Iterator[Writing]:
        """What there is to say until the model is there."""
        for progress in while_loading(self.registry.for_visitor(visitor), name):
            yield Writing("loading", model=name, loading=progress)

    def _outline(
        self, model: ChatModel, request: StoryRequest, count: int, visitor: str
    ) -> Iterator[tuple[Chapter, ...]]:
        pinned = pin(
            request.bible,
            request.language,
            lambda text: model.count_tokens([user(text)]),
            budget_of(model.context_tokens),
        )
        messages = outline_messages(request, pinned.text, count)
        for text in self._draft(model, messages, request, visitor):
            yield parse_outline(text, count)

    def _draft(
        self, model: ChatModel, messages: Sequence[Message], request: StoryRequest, visitor: str
    ) -> Iterator[str]:
        sampling = Sampling(temperature=DRAFT_TEMPERATURE, max_new_tokens=DRAFT_TOKENS, seed=request.seed)
        text = ""
        with closing(polled(model.stream(messages, sampling, visitor=visitor))) as pieces:
            for news in pieces:
                text += "".join(news)
                yield text
                time.sleep(PACE_S if news else 0)


def _estimate(text: str) -> int:
    """Tokens of a text for a tokenizer not at hand: one a Chinese character, one for four others."""
    wide = sum(ord(letter) > 0x2E7F for letter in text)
    return wide + (len(text) - wide) // 4
