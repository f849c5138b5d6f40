"""Retrieval-augmented answering: rewrite, search, judge, pack the prompt, generate, check citations."""

import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import GEN_CREATED, getgeneratorstate
from types import GeneratorType
from typing import Any, Literal, cast

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda

from app.knowledge.answer import prompts
from app.knowledge.answer.citing import PROBE_TOKENS, CitingProbe, names_its_source, probe
from app.knowledge.answer.langchain_chat_model import RegistryChatModel, to_messages
from app.knowledge.answer.quotes import Quote, choose_quotes, read, sentences_of
from app.knowledge.answer.tokens import root, roots
from app.knowledge.answer.verdicts import Verdict, judge
from app.knowledge.retrieve.retrieval import Hit, Searcher
from app.knowledge.retrieve.segmenting import content_words
from app.models.interface import Message, Registry, Sampling
from app.models.repetition_loops import before_loop
from app.models.waiting import while_loading
from app.texts import has_chinese

LONGEST_ANSWER = 400  # tokens
CITED_TEMPERATURE = 0.2  # whatever the checkpoint's own: an answer is to repeat what the documents say
FEW_WORDS = 2  # content words below which a question cannot stand alone
POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|this|that|these|those|he|him|his|she|her|there|one|ones|else|then|so|also)\b"
    r"|^\s*(?:and|but|or|what about|how about)\b|[它他她其那这此]|呢[？?]?\s*$|还有|另外|上面|前面|刚才",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Question:
    """What is asked. `use_documents` off gives the model's own answer only, `compare` gives both side by side."""

    text: str
    history: Sequence[Message] = ()
    model: str = ""
    use_documents: bool = True
    compare: bool = False
    k: int = 5
    files: Sequence[int] | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling(CITED_TEMPERATURE, max_new_tokens=LONGEST_ANSWER))
    visitor: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer so far. `quotes` come with the passages, before the model has said anything, `verdicts` with the last
    one; `alone` is what the model says without documents.

    `cites` tells whether the model names its sources reliably, None while that is being tried. `loading` is the share
    of the model that is there while it is being loaded.
    """

    state: Literal["loading", "rewriting", "writing", "done"] = "writing"
    loading: float | None = None
    text: str = ""
    alone: str = ""
    hits: tuple[Hit, ...] = ()
    quotes: tuple[Quote, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    cites: bool | None = None
    refused: bool = False
    searched_for: str = ""


@dataclass(frozen=True)
class Answerer:
    """Answers from one collection with one model."""

    registry: Registry
    searcher: Searcher | None
    citing: CitingProbe = field(default_factory=CitingProbe)

    def ask(self, question: Question) -> Iterator[Answer]:
        """Stream the answer, a value several times a second. Close the iterator to stop the model."""
        question = replace(question, model=question.model or self.registry.default_name)
        registry = self.registry.for_visitor(question.visitor)
        for share in while_loading(registry, question.model):
            yield Answer(state="loading", loading=share)
        model = RegistryChatModel.of(registry, question.model, question.sampling, question.visitor)
        answer, chinese = Answer(), has_chinese(question.text)
        running: dict[str, Iterator[str]] = {}
        tried = ""
        with registry.lease(question.model) as leased, ended(model, running):
            if question.compare or not question.use_documents:
                running["alone"] = model_alone(model, question)
            if question.use_documents:
                answer = yield from self._found(model, question)
                answer = replace(answer, cites=self.citing.cites(question.model, chinese))
                yield answer
                if not answer.refused:
                    chain = answer_chain(model, chinese, room(leased, question.sampling))
                    running["text"] = chain.stream({"question": answer.searched_for, "hits": answer.hits})
                    if answer.cites is None:
                        running["probe"] = probe(short(model, PROBE_TOKENS), chinese)
            for name, text in together(running):
                if name == "probe":
                    tried = text
                else:
                    answer = replace(answer, **{name: text})  # type: ignore[arg-type]
                    yield answer
            if tried:
                self.citing.keep(question.model, chinese, names_its_source(tried, chinese))
                answer = replace(answer, cites=self.citing.cites(question.model, chinese))
        if question.use_documents and not answer.refused:
            texts = [hit.passage.content for hit in answer.hits]
            verdicts = judge(answer.text, answer.searched_for, sentences_of(answer.hits), texts)
            answer = replace(answer, verdicts=tuple(verdicts))
        yield replace(answer, state="done")

    def _found(self, model: RegistryChatModel, question: Question) -> Generator[Answer, None, Answer]:
        """Search, with the question and with its rewriting where it follows up."""
        assert self.searcher is not None
        asked, queries = question.text, [question.text]
        if question.history and leans_on_earlier_turns(question.text):
            rewritten = yield from rewrite(model, question)
            before = last_question(question.history)
            asked = rewritten or f"{before} {question.text}".strip()
            queries = [rewritten, question.text] if rewritten else [question.text, before]
        searcher = self.searcher
        hits, evidence = searcher.search_with_evidence(list(filter(None, queries)), question.k, question.files)
        reading = read(asked, hits, searcher.embedder, evidence)
        if not reading.answers(evidence):
            text = prompts.NOTHING_FOUND[has_chinese(question.text)]
            return Answer(text=text, refused=True, searched_for=asked)
        quotes = choose_quotes(reading, searcher.reranker)
        return Answer(hits=tuple(hits), quotes=quotes, searched_for=asked)


@contextmanager
def ended(model: RegistryChatModel, streams: dict[str, Iterator[str]]) -> Iterator[None]:
    """However the reader leaves, the model stops, and the streams are read out so that their leases end."""
    try:
        yield
    finally:
        model.cancel()
        for stream in streams.values():
            if getgeneratorstate(cast("GeneratorType[str, None, None]", stream)) != GEN_CREATED:
                deque(stream, maxlen=0)


def answer_chain(model: Runnable[Any, BaseMessage], chinese: bool, fits: Any) -> Runnable[Any, str]:
    """Passages and question to text: the chain that answers. `fits` tells whether a prompt has room in the model."""

    def packed(given: dict[str, Any]) -> Any:
        passages = [(hit.passage.path, " - ".join(hit.passage.heading), hit.passage.content) for hit in given["hits"]]
        while True:
            values = {"question": given["question"], "context": prompts.context(passages)}
            prompt = prompts.ANSWER[chinese].invoke(values)
            if len(passages) <= 1 or fits(prompt.to_messages()):
                return prompt
            passages.pop()

    return RunnableLambda(packed) | model | StrOutputParser()


def room(leased: Any, sampling: Sampling) -> Any:
    """Whether messages and the longest answer fit into the window of a leased model."""
    limit = leased.context_tokens - sampling.max_new_tokens
    return lambda messages: leased.count_tokens(to_messages(messages)) <= limit


def model_alone(model: RegistryChatModel, question: Question) -> Iterator[str]:
    """The same model without documents."""
    messages = [(turn["role"], turn["content"]) for turn in question.history if turn["role"] in ("user", "assistant")]
    return (model | StrOutputParser()).stream([*messages, ("user", question.text)])


def leans_on_earlier_turns(question: str) -> bool:
    """Whether a question needs the conversation to be understood: it points back, or hardly says anything."""
    return bool(POINTS_BACK.search(question)) or len(roots(question)) < FEW_WORDS


def rewrite(model: RegistryChatModel, question: Question) -> Generator[Answer, None, str]:
    """A follow-up as a question of its own, or nothing where the model's rewriting changes what is asked."""
    template = prompts.REWRITE[has_chinese(question.text)]
    prompt = template.format(turns=prompts.conversation(question.history), question=question.text)
    brief = short(model, 80)
    text = ""
    with ended(brief, streams := {"rewritten": (brief | StrOutputParser()).stream([HumanMessage(prompt)])}):
        for _, so_far in together(streams):
            text = so_far.strip()
            yield Answer(state="rewriting")
    line = text.splitlines()[0].strip().strip("「」\"'") if text else ""
    return line if keeps_the_question(line, question) else ""


def short(model: RegistryChatModel, tokens: int) -> RegistryChatModel:
    """The same model for a short answer that is always the same."""
    return model.model_copy(update={"temperature": 0.0, "max_tokens": tokens})


def keeps_the_question(line: str, question: Question) -> bool:
    """Whether a rewriting holds the question's own words and adds none that stand in no earlier turn."""
    if not 2 <= len(line) <= 200 or has_chinese(line) != has_chinese(question.text):
        return False
    said = {word for turn in question.history for word in all_words(turn["content"])}
    words, own = all_words(line), all_words(question.text)
    return own <= words and words <= own | said


def all_words(text: str) -> set[str]:
    """Content words by their roots, numbers as they are."""
    return {root(word) for word, _, _ in content_words(text) if not POINTS_BACK.fullmatch(word)}


def last_question(history: Sequence[Message]) -> str:
    """What the person asked before: it holds the subject that a follow-up leaves out."""
    return next((turn["content"][:200] for turn in reversed(history) if turn["role"] == "user"), "")


def together(streams: dict[str, Iterator[str]]) -> Iterator[tuple[str, str]]:
    """Advance streams in turn, so that their requests share the model's batch; yields (name, text so far).

    A text that begins to turn in a circle ends there.
    """
    texts = dict.fromkeys(streams, "")
    running = dict(streams)
    while running:
        for name, stream in list(running.items()):
            piece = next(stream, None)
            if piece is None:
                del running[name]
                continue
            texts[name] += piece
            if (whole := before_loop(texts[name])) is not None:
                texts[name] = whole
                del running[name]
            yield name, texts[name]
