"""Write a whole story: one text, or chapter by chapter along an outline, each with its share of the length."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from app.models.interface import ChatModel, Message, Sampling
from app.story.bible import budget_of, pin
from app.story.errors import PremiseTooLong
from app.story.length import Target, split_sentences
from app.story.outline import Chapter, heading_of
from app.story.prompts import Moment, brief, instructions, last_sentences, story_messages, user
from app.story.repetition import Memory
from app.story.request import StoryRequest
from app.story.steering import Writer

FEW = 2  # sentences of the old text for a model that goes round in circles


@dataclass(frozen=True)
class Writing:
    """A story as it stands now. `loading` is 0 to 1 while its model is fetched, None when unknown.

    `removed` counts repeated sentences taken out; `gave_up` says that the model found nothing new to say.
    """

    state: Literal["loading", "queued", "writing", "done"]
    text: str = ""
    model: str = ""
    loading: float | None = None
    queue_ahead: int = 0
    length: int = 0
    chapter: int = 0
    removed: int = 0
    gave_up: bool = False


@dataclass
class StoryWriter:
    """Tells one story with a leased model."""

    model: ChatModel
    request: StoryRequest
    visitor: str = ""
    _memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        pinned = pin(self.request.bible, self.request.language, self._tokens, budget_of(self.model.context_tokens))
        self._opening = brief(self.request, pinned.text)
        self._target = Target(self.request.length, self.request.language)
        limit = self.model.context_tokens // 2
        if (tokens := self._tokens(self._opening)) > limit:
            raise PremiseTooLong(tokens=tokens, limit=limit)

    def tell(self) -> Iterator[Writing]:
        """The story as it grows."""
        chapters: tuple[Chapter | None, ...] = self.request.outline or (None,)
        before, removed, gave_up = "", 0, False
        for number, chapter in enumerate(chapters, start=1):
            head = heading_of(chapter, number, self.request.language) if chapter else ""
            before = "\n\n".join(part for part in (before, head) if part)
            share = (self.request.length - self._target.of(before)) // (len(chapters) - number + 1)
            writer = self._writer(max(1, share), before, chapter)
            for text in writer.write():
                yield self._now(writer, "\n\n".join(part for part in (before, text) if part), number, removed)
            before = "\n\n".join(part for part in (before, writer.text) if part)
            removed, gave_up = removed + writer.removed, gave_up or writer.gave_up
        length = self._target.of(before)
        yield Writing("done", before, self.model.name, length=length, removed=removed, gave_up=gave_up)

    def _now(self, writer: Writer, text: str, number: int, removed: int) -> Writing:
        ahead = writer.generation.queue_ahead if writer.generation else 0
        return Writing(
            "queued" if ahead and not text else "writing",
            text,
            self.model.name,
            queue_ahead=ahead,
            length=self._target.of(text),
            chapter=number if self.request.outline else 0,
            removed=removed + writer.removed,
        )

    def _writer(self, share: int, before: str, chapter: Chapter | None) -> Writer:
        def prompt(moment: Moment) -> list[Message]:
            so_far = "\n\n".join(part for part in (before, moment.text) if part)
            begins = not moment.text
            return story_messages(self.request, self._opening, moment, self._tail(so_far, moment), chapter, begins)

        sampling = Sampling(temperature=self.request.temperature, seed=self.request.seed)
        return Writer(
            self.model,
            sampling,
            Target(share, self.request.language),
            prompt,
            self.visitor,
            memory=self._memory,
            told=instructions(self.request.language),
        )

    def _tail(self, text: str, moment: Moment) -> str:
        """As much of the end of the text as leaves half of the context free; little for a model that repeats."""
        sentences = split_sentences(text)
        if moment.barren >= FEW:
            return last_sentences(sentences, FEW)
        room = self.model.context_tokens // 2 - self._tokens(self._opening)
        while len(sentences) > 1 and self._tokens("".join(sentences)) > room:
            sentences = sentences[len(sentences) // 4 + 1 :] if len(sentences) > 8 else sentences[1:]
        return "".join(sentences).strip()

    def _tokens(self, text: str) -> int:
        return self.model.count_tokens([user(text)])
