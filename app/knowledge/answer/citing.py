"""Probe whether a model can cite: one fixed question over two sources, asked beside its first answer and kept."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable

from app.errors import StudioError
from app.knowledge.answer import prompts
from app.knowledge.answer.verdicts import MARK, cited_numbers

PROBE_TOKENS = 40
# By language (is it Chinese?): question, sources, what the answer must say. The second source holds it.
PROBES = {
    True: (
        "博物馆几点闭馆？",
        [("图书馆.md", "开放时间", "图书馆上午九点开门。"), ("博物馆.md", "开放时间", "博物馆下午六点闭馆。")],
        re.compile("六点|6 ?点|18"),
    ),
    False: (
        "When does the museum close?",
        [("library.md", "Hours", "The library opens at nine."), ("museum.md", "Hours", "The museum closes at six.")],
        re.compile(r"\bsix\b|\b6\b|\b18\b", re.IGNORECASE),
    ),
}


class CitingProbe:
    """What is known of models, for the life of the server. Safe from several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool], bool] = {}

    def cites(self, model: str, chinese: bool) -> bool | None:
        """Whether a model cites in this language; None while nobody has tried."""
        return self._known.get((model, chinese))

    def keep(self, model: str, chinese: bool, cites: bool) -> None:
        """Remember how the probe went."""
        self._known[model, chinese] = cites


def probe(model: Runnable[Any, BaseMessage], chinese: bool) -> Iterator[str]:
    """The answer to the fixed question, as it comes; nothing where the visitor may not ask a second thing now."""
    question, sources, _ = PROBES[chinese]
    values = {"question": question, "context": prompts.context(sources)}
    with suppress(StudioError):
        yield from (model | StrOutputParser()).stream(prompts.ANSWER[chinese].invoke(values))


def names_its_source(answer: str, chinese: bool) -> bool:
    """Whether the answer to the probe is right and names the source that holds it, and no other."""
    return set(cited_numbers(answer)) == {2} and bool(PROBES[chinese][2].search(MARK.sub("", answer)))
