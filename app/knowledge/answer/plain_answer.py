"""Answers as plain values for programs: marked text, passages, quotes and verdicts of `/ask` and the MCP tools.

`start` and `end` are places in the whole document.
"""

from dataclasses import dataclass

from app.errors import Language
from app.knowledge.answer.answering import Answer
from app.knowledge.answer.verdicts import MARK, Judgement, marked
from app.knowledge.retrieve.retrieval import Hit
from app.texts import sentence


@dataclass(frozen=True)
class PlainPassage:
    """A passage of a document; `heading` is the path of headings above it, `page` counts from 1 where there are any."""

    source: str
    page: int | None
    heading: str
    start: int
    end: int
    score: float
    text: str


@dataclass(frozen=True)
class PlainQuote:
    """A sentence of a document word for word, chosen without a language model; `passage` is the passage's number."""

    source: str
    page: int | None
    heading: str
    start: int
    end: int
    passage: int
    text: str


@dataclass(frozen=True)
class PlainVerdict:
    """Whether a sentence of the model is `supported` by a passage, `not found`, or an `echo` of the question."""

    sentence: str
    verdict: Judgement
    passage: int | None
    source: str | None
    spans: list[list[int]]


def marked_text(answer: Answer, language: Language, mark: str = "[{number}]") -> str:
    """The answer with a mark behind each sentence that a source holds and a word behind each other one.

    While it is being written, as it comes.
    """
    if not answer.verdicts:
        return answer.text
    text = marked(answer.text, answer.verdicts, " " + sentence(language, "knowledge.unsupported"), mark)
    return text or sentence(language, "knowledge.only_echo")


def plain_passage(hit: Hit) -> PlainPassage:
    """A passage as a search gives it."""
    passage = hit.passage
    heading, score = " > ".join(passage.heading), round(hit.score, 4)
    return PlainPassage(passage.path, passage.page, heading, passage.start, passage.end, score, passage.content)


def plain_quotes(answer: Answer) -> list[PlainQuote]:
    """The quotes, best first."""
    quotes = []
    for quote in answer.quotes:
        held = answer.hits[quote.number - 1].passage
        start, end = held.start + quote.start, held.start + quote.end
        heading = " > ".join(held.heading)
        quotes.append(PlainQuote(held.path, held.page, heading, start, end, quote.number, quote.text))
    return quotes


def plain_verdicts(answer: Answer) -> list[PlainVerdict]:
    """A verdict on every sentence of a finished answer, in order; sentences come without marks."""
    verdicts = []
    for verdict in answer.verdicts:
        held = answer.hits[verdict.passage - 1].passage if verdict.passage else None
        spans = [[held.start + start, held.start + end] for start, end in verdict.spans] if held else []
        said = MARK.sub("", answer.text[verdict.start : verdict.end]).strip()
        source = held.path if held else None
        verdicts.append(PlainVerdict(said, verdict.judgement, verdict.passage or None, source, spans))
    return verdicts
