"""Edit one paragraph with a model: rewrite, lengthen, shorten, or write a new one after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from app.models.interface import ChatModel, Message, Sampling
from app.story.bible import budget_of, pin
from app.story.draft import Draft, paragraphs_of
from app.story.errors import WriterLost
from app.story.length import Target, count, split_sentences
from app.story.prompts import Moment, brief, instructions, last_sentences, paragraph_messages, user, words_of
from app.story.repetition import Memory, units
from app.story.request import StoryRequest
from app.story.steering import Writer

Action = Literal["rewrite", "lengthen", "shorten", "continue"]
ACTIONS: tuple[Action, ...] = ("rewrite", "lengthen", "shorten", "continue")
SIZES: dict[Action, float] = {"rewrite": 1.0, "lengthen": 1.8, "shorten": 0.55, "continue": 1.0}
SHORTEST = 12
SENTENCES_BEFORE = 8


@dataclass(frozen=True)
class Reworking:
    """Works on paragraph `place` of a draft with a leased model."""

    model: ChatModel
    request: StoryRequest
    draft: Draft
    place: int
    action: Action
    wish: str = ""
    visitor: str = ""

    def run(self) -> Iterator[Draft]:
        """The draft with the paragraph as it grows; each is one change away from the draft at the beginning.

        Raises WriterLost, and nothing is changed, where the model gives nothing to use.
        """
        old = self.draft.paragraphs[self.place]
        writer = self._writer(old)
        for text in writer.write():
            yield self._with(text)
        if writer.gave_up and not self._useful(old, writer.text):
            raise WriterLost
        yield self._with(writer.text)

    def _with(self, text: str) -> Draft:
        new = paragraphs_of(" ".join(text.split("\n\n")) if self.request.language == "en" else text.replace("\n\n", ""))
        if not new:
            return self.draft
        if self.action == "continue":
            return self.draft.replaced(self.place + 1, 0, new)
        return self.draft.replaced(self.place, 1, new)

    def _useful(self, old: str, new: str) -> bool:
        size = count(new, self.request.language) / max(1, count(old, self.request.language))
        bounds = {"rewrite": (0.4, 2.0), "lengthen": (1.05, 9.0), "shorten": (0.05, 0.95), "continue": (0.1, 9.0)}
        low, high = bounds[self.action]
        return low <= size <= high

    def _writer(self, old: str) -> Writer:
        wanted = max(SHORTEST, round(SIZES[self.action] * count(old, self.request.language)))
        sampling = Sampling(temperature=self.request.temperature, seed=self.request.seed)
        return Writer(
            self.model,
            sampling,
            Target(wanted, self.request.language),
            lambda moment: self._messages(old, wanted, moment),
            self.visitor,
            memory=self._known(),
            told=instructions(self.request.language),
        )

    def _known(self) -> Memory:
        """What the paragraph may not say again; its own words it may, unless it is followed by a new one."""
        known = Memory()
        for place, paragraph in enumerate(self.draft.paragraphs):
            if place != self.place or self.action == "continue":
                for sentence in split_sentences(paragraph):
                    known.add(sentence)
        return known

    def _messages(self, old: str, wanted: int, moment: Moment) -> list[Message]:
        def tokens(text: str) -> int:
            return self.model.count_tokens([user(text)])

        pinned = pin(self.request.bible, self.request.language, tokens, budget_of(self.model.context_tokens))
        earlier = split_sentences("\n\n".join(self.draft.paragraphs[: self.place]))
        before = last_sentences(earlier, SENTENCES_BEFORE)
        messages = paragraph_messages(
            self.request, brief(self.request, pinned.text), before, old, self.action, wanted, self.wish
        )
        if moment.text and units(moment.text):
            more = words_of(self.request.language)["paragraph_on"]
            messages += [{"role": "assistant", "content": moment.text}, user(more)]
        return messages
