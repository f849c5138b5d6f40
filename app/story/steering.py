"""Writing towards a length: in pieces, steered, ending on a whole sentence; what is said twice is taken out.

A piece runs until three quarters of the length are there; the next is asked for the ending. A sentence that would pass
the upper bound is not taken, and near the end only whole sentences are shown, so nothing shown goes away again, with
one exception: a sentence that turns out to repeat the text. Sentences that may be repeating are held back while they
are written, so that even this is rare. A model that goes round in circles is stopped there and asked again, with
another seed, a higher temperature and, in the end, with little of the old text before its eyes.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from app.models.interface import ChatModel, Generation, Message, Sampling
from app.models.waiting import polled
from app.story.length import SentenceReader, Target, ends_whole, finished
from app.story.prompts import Moment
from app.story.repetition import Memory, circles, units
from app.story.talk import is_talk, may_be_talk

PACE_S = 0.06  # pieces that come faster are shown together
TURN = 0.75  # of the length: from here on the ending is asked for
SMALL = 80  # shorter texts are asked for whole
TOKENS_A_UNIT = 3  # more than any tokenizer needs for a word or a character
RUNAWAY = 110  # units without an end of a sentence
PATIENCE = 10  # attempts without a new sentence
WARMER, WARMEST = 0.12, 1.25
PARAGRAPH = 45  # units after which a new piece begins a new paragraph
Verdict = Literal["taken", "dropped", "again", "turn", "done"]
Prompt = Callable[[Moment], Sequence[Message]]


@dataclass
class Writer:
    """One text on its way to its length. `text` is what is taken; `removed` counts the sentences taken out.

    `told` holds the instructions, which are no part of the text when a model says them back.
    """

    model: ChatModel
    sampling: Sampling
    target: Target
    prompt: Prompt
    visitor: str = ""
    memory: Memory = field(default_factory=Memory)
    told: Memory = field(default_factory=Memory)
    text: str = ""
    removed: int = 0
    gave_up: bool = False
    generation: Generation | None = None
    _barren: int = 0
    _attempts: int = 0

    def write(self) -> Iterator[str]:
        """The text as it may be shown, again and again. Closing the iterator stops the model."""
        verdict: Verdict = "again"
        while verdict != "done":
            before = self.text
            verdict = yield from self._piece()
            self._barren = 0 if self.text != before else self._barren + 1
            if self._barren >= PATIENCE:
                self.gave_up, verdict = True, "done"
        yield self.text

    @property
    def length(self) -> int:
        return self.target.of(self.text)

    def _piece(self) -> Generator[str, None, Verdict]:
        ending = self.target.wanted <= SMALL or self.length >= TURN * self.target.wanted
        moment = Moment(self.text, self.target.wanted - self.length, ending, self._barren)
        messages = self.prompt(moment)
        sampling = self._sampling(self._room(messages))
        self._attempts += 1
        self.generation = self.model.stream(messages, sampling, visitor=self.visitor)
        piece = _Piece(self, SentenceReader(), ending, sampling.max_new_tokens)
        with closing(polled(self.generation)) as pieces:
            for news in pieces:
                verdict = piece.read("".join(news))
                yield piece.shown()
                time.sleep(PACE_S if news else 0)
                if verdict is not None:
                    return verdict
        return piece.ended()

    def _room(self, messages: Sequence[Message]) -> int:
        room = self.model.context_tokens - self.model.count_tokens(messages)
        wanted = TOKENS_A_UNIT * (self.target.high - self.length) + 64
        return max(32, min(wanted, room))

    def _sampling(self, tokens: int) -> Sampling:
        warmth = min(WARMEST, self.sampling.temperature + WARMER * self._barren)
        seed = None if self.sampling.seed is None else self.sampling.seed + self._attempts
        return replace(
            self.sampling, temperature=max(self.sampling.temperature, warmth), seed=seed, max_new_tokens=tokens
        )

    def take(self, sentence: str, *, begins: bool, ending: bool) -> Verdict:
        """Judge one finished sentence, and add it if it is good."""
        if self.memory.repeats(sentence) or self.told.repeats(sentence):
            self.removed += 1
            return "again" if circles(units(sentence)) else "dropped"
        longer = joined(self.text, sentence, begins)
        length, whole = self.target.of(longer), ends_whole(self.text)
        may_end_before = whole and self.length >= self.target.low
        if length > self.target.high:
            return "done" if may_end_before else self._squeeze(sentence, begins)
        past = length - self.target.wanted
        if past >= 0 and may_end_before and self.target.wanted - self.length <= past:
            return "done"
        self.text = longer
        self.memory.add(sentence)
        if past >= 0 and ends_whole(longer):
            return "done"
        return "turn" if not ending and length >= TURN * self.target.wanted else "taken"

    def _squeeze(self, sentence: str, begins: bool) -> Verdict:
        """The first clauses of a sentence that is too long, once asking again has not helped."""
        if self._barren < 2:
            return "again"
        clauses = re.split(r"(?<=[,，;；:：、])", sentence)
        for count in range(len(clauses) - 1, 0, -1):
            longer = joined(self.text, finished("".join(clauses[:count])), begins)
            if self.target.low <= self.target.of(longer) <= self.target.high:
                self.text = longer
                return "done"
        return "again"


@dataclass
class _Piece:
    """One generation being read."""

    writer: Writer
    reader: SentenceReader
    ending: bool
    most_tokens: int
    begins: bool = True
    repeated: int = 0

    def read(self, news: str) -> Verdict | None:
        """Take what is finished; a verdict ends the piece."""
        for sentence in self.reader.push(news):
            if (verdict := self._judge(sentence)) is not None:
                return verdict
        rest = self.reader.rest
        if len(said := units(rest)) > RUNAWAY or circles(said):
            return self._cut_short(rest)
        if self.writer.target.of(self.writer.text + rest) > self.writer.target.high + 5:
            return self._judge(finished(rest)) or "again"
        return None

    def shown(self) -> str:
        """The text with the sentence being written, where that may be shown."""
        writer, rest = self.writer, self.reader.rest
        longer = joined(writer.text, rest, self.begins) if rest.strip() else writer.text
        near_the_end = writer.target.of(longer) >= writer.target.low
        talk = self.begins and may_be_talk(rest)
        return writer.text if near_the_end or talk or writer.memory.may_repeat(rest) else longer

    def ended(self) -> Verdict:
        """The model stopped by itself."""
        writer = self.writer
        if writer.generation is not None and writer.generation.finish_reason == "stop":
            last = self.reader.close()
            if last and self._judge(last) == "done":
                return "done"
            if writer.length >= writer.target.low and ends_whole(writer.text):
                return "done"
        return "again"

    def _judge(self, sentence: str) -> Verdict | None:
        writer = self.writer
        if is_talk(sentence):
            return None
        verdict = writer.take(sentence, begins=self.begins, ending=self.ending)
        if verdict == "dropped":
            self.repeated += 1
            return "again" if self.repeated >= 2 else None
        if verdict == "taken":
            self.begins, self.repeated = False, 0
            used = writer.generation.completion_tokens if writer.generation else 0
            return "again" if used > 0.8 * self.most_tokens else None
        return verdict

    def _cut_short(self, rest: str) -> Verdict:
        """A sentence without end: what came before its circle may be worth keeping."""
        self.writer.removed += 1
        return "again" if self.writer._barren < 2 else self.writer._squeeze(rest, self.begins)


def joined(text: str, sentence: str, begins: bool) -> str:
    """The text with one sentence more; a new piece begins a new paragraph unless the last one is short."""
    lead, bare = sentence[: len(sentence) - len(sentence.lstrip())], sentence.strip()
    if not text:
        return bare
    last = text.rpartition("\n\n")[2]
    if "\n" in lead or (begins and len(units(last)) >= PARAGRAPH):
        return f"{text}\n\n{bare}"
    return f"{text} {bare}" if (text[-1].isascii() or bare[0].isascii()) else text + bare
