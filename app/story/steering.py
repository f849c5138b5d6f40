"""Length-controlled generation: write in pieces, steer each towards the length, end on a whole sentence.

A piece runs until three quarters of the length are there; the next is asked for the ending. A sentence that would pass
the upper bound is not taken, and near the end only whole sentences are shown, so nothing shown goes away again, with
two exceptions: a sentence that turns out to repeat the text, and the last one where nothing short enough would follow
it. Sentences that may be repeating are held back while they are written, so that even this is rare. A model that goes
round in circles is stopped there and asked again, with another seed, a higher temperature and, in the end, with little
of the old text before its eyes. No sentence is ever cut: each is one that the model ended itself.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from app.models.interface import ChatModel, Generation, Message, Sampling
from app.models.waiting import polled
from app.story.length import SentenceReader, Target, ends_whole
from app.story.prompts import Moment
from app.story.repetition import Memory, circles, units
from app.story.talk import is_talk, may_be_talk

PACE_S = 0.06  # pieces that come faster are shown together
TURN = 0.75  # of the length: from here on the ending is asked for
SMALL = 80  # shorter texts are asked for whole
TOKENS_A_UNIT = 3  # more than any tokenizer needs for a word or a character
RUNAWAY = 110  # units without an end of a sentence
PATIENCE = 14  # attempts without a new sentence
STUCK = 6  # attempts without one, near the end, after which the last sentence is given up for more room
MOST_STEPS_BACK = 3
WARMER, WARMEST = 0.12, 1.25
PARAGRAPH = 45  # units after which a new piece begins a new paragraph
Verdict = Literal["taken", "dropped", "again", "turn", "done"]
MakePrompt = Callable[[Moment], Sequence[Message]]


@dataclass
class Writer:
    """One text on its way to its length. `text` is what is taken; `removed` counts the sentences taken out.

    `told` holds the instructions, which are no part of the text when a model says them back.
    """

    model: ChatModel
    sampling: Sampling
    target: Target
    prompt: MakePrompt
    visitor: str = ""
    memory: Memory = field(default_factory=Memory)
    told: Memory = field(default_factory=Memory)
    text: str = ""
    removed: int = 0
    gave_up: bool = False
    generation: Generation | None = None
    _barren: int = 0
    _attempts: int = 0
    _before: list[str] = field(default_factory=list)  # the text before each of its sentences
    _steps_back: int = 0
    _too_long: str = ""  # the shortest text that went past the bound, on a whole sentence

    def write(self) -> Iterator[str]:
        """The text as it may be shown, again and again. Closing the iterator stops the model."""
        verdict: Verdict = "again"
        while verdict != "done":
            before = self.text
            verdict = yield from self._piece()
            self._barren = 0 if self.text != before else self._barren + 1
            if self._barren >= PATIENCE:
                self._settle()
                verdict = "done"
            elif self._barren == STUCK:
                self._step_back()
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
        usual = self.sampling.resolved(self.model.sampling_defaults).temperature
        warmth = min(WARMEST, usual + WARMER * self._barren)
        seed = None if self.sampling.seed is None else self.sampling.seed + self._attempts
        return replace(self.sampling, temperature=max(usual, warmth), seed=seed, max_new_tokens=tokens)

    def take(self, sentence: str, *, begins: bool, ending: bool) -> Verdict:
        """Judge one finished sentence, and add it if it is good."""
        if self.memory.repeats(sentence):
            self.removed += 1
            return "again" if circles(units(sentence)) else "dropped"
        longer = joined(self.text, sentence, begins)
        length, whole = self.target.of(longer), ends_whole(self.text)
        may_end_before = whole and self.length >= self.target.low
        if length > self.target.high:
            if ends_whole(longer) and (not self._too_long or length < self.target.of(self._too_long)):
                self._too_long = longer
            return "done" if may_end_before else "again"
        past = length - self.target.wanted
        if past >= 0 and may_end_before and self.target.wanted - self.length <= past:
            return "done"
        self._before.append(self.text)
        self.text = longer
        self.memory.add(sentence)
        if past >= 0 and ends_whole(longer):
            return "done"
        return "turn" if not ending and length >= TURN * self.target.wanted else "taken"

    @property
    def stuck(self) -> bool:
        """Whether asking again has long been in vain."""
        return self._barren >= STUCK

    def _step_back(self) -> None:
        """Near the end, another way to it: without the last sentence there is room for a longer one."""
        near = self.length >= TURN * self.target.wanted
        if near and len(self._before) > 1 and self._steps_back < MOST_STEPS_BACK:
            self._steps_back += 1
            self.text = self._before.pop()

    def _settle(self) -> None:
        """Nothing fits: the whole sentence whose end is nearest to the length is the last."""
        while self.text and not ends_whole(self.text) and self._before:
            self.text = self._before.pop()
        wanted = self.target.wanted
        if self._too_long and self.target.of(self._too_long) - wanted < wanted - self.length:
            self.text = self._too_long
        else:
            self.gave_up = True


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
            self.writer.removed += 1
            return "again"
        if self.writer.target.of(self.writer.text + rest) > self.writer.target.high:
            return self._too_long()
        return None

    def _too_long(self) -> Verdict | None:
        """The sentence being written goes past the bound; where none fits, its end may still be the nearest."""
        writer = self.writer
        if writer.length >= writer.target.low and ends_whole(writer.text):
            return "done"
        return None if writer.stuck else "again"

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
        if is_talk(sentence) or writer.told.has(sentence):
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


def joined(text: str, sentence: str, begins: bool) -> str:
    """The text with one sentence more; a new piece begins a new paragraph unless the last one is short."""
    lead, bare = sentence[: len(sentence) - len(sentence.lstrip())], sentence.strip()
    if not text:
        return bare
    last = text.rpartition("\n\n")[2]
    if "\n" in lead or (begins and len(units(last)) >= PARAGRAPH):
        return f"{text}\n\n{bare}"
    return f"{text} {bare}" if (text[-1].isascii() or bare[0].isascii()) else text + bare
