"""Generate picture captions: what a photograph at a place in the text would show."""

import re
from collections.abc import Iterator
from contextlib import closing

from app.errors import Language
from app.models.interface import ChatModel, Sampling
from app.models.waiting import polled
from app.story.length import CLOSERS, ENDINGS, split_sentences
from app.story.prompts import caption_messages
from app.story.request import language_of
from app.story.talk import may_be_talk

MOST_TOKENS, MOST_CHARACTERS = 60, 120
PAUSES = ",，;；:：、—–"
PHRASE = re.compile(  # no dot or comma within a number
    rf"^.*(?:[{ENDINGS}][{CLOSERS}]*(?=\s|$|[^\x00-\x7f])|[。！？…][{CLOSERS}]*|[{PAUSES}](?!\d))", re.DOTALL
)


def captions_for(model: ChatModel, paragraph: str, visitor: str) -> Iterator[str]:
    """The caption as it grows; at last one that can stand, the paragraph's first sentence if the model gave none."""
    language: Language = language_of(paragraph) or "en"
    sampling = Sampling(max_new_tokens=MOST_TOKENS, seed=0)
    generation = model.stream(caption_messages(language, paragraph), sampling, visitor=visitor)
    said = ""
    with closing(polled(generation)) as pieces:
        for news in pieces:
            said += "".join(news)
            yield said
    lines = said.splitlines()
    if generation.finish_reason == "length" and lines:
        lines[-1] = whole_phrases(lines[-1])
    line = next((line.strip(' "*“”「」') for line in lines if line.strip() and not may_be_talk(line)), "")
    yield shortened(line or split_sentences(paragraph)[0].strip())


def shortened(caption: str, most: int = MOST_CHARACTERS) -> str:
    """At most so many characters, ending where a sentence, a phrase, or at least a word does."""
    return caption if len(caption) <= most else whole_phrases(caption[:most])


def whole_phrases(cut: str) -> str:
    """A text that breaks off, up to its last whole sentence or phrase; else its last whole word and an ellipsis."""
    if found := PHRASE.match(cut):
        return found[0].rstrip(PAUSES)
    words, space, _ = cut.rpartition(" ")
    return f"{words if space else cut[:-1]}…"
