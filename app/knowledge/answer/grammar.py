"""Languages whose negations and conditions are known here: English and Chinese. A sentence of another is held whole."""

from functools import lru_cache

from app.knowledge.answer.omissions import left_out
from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import numbers, roots
from app.knowledge.ingest.tables import cells_of
from app.knowledge.retrieve.scripts import HAN, KANA_OR_THAI, SPACED_WORD
from app.knowledge.retrieve.segmenting import ENGLISH_STOP_WORDS

ENGLISH = frozenset(ENGLISH_STOP_WORDS.split())
# The most frequent words of other languages that are written in plain Latin letters; without those of English.
OTHER_WORDS = """
der die das und ist nicht ein eine einen einem einer mit den dem von zu im auf ab wird wurde sind kein keine nur
le la les des du et est une un dans pour que qui au aux avec par sur sont pas ne ce cette
el los las es en del al por con su se una como lo si esta
il gli che di per non sono della nel ha anche da
os um uma com na no do das dos em
het een van niet dat op te zijn wordt voor aan met
na nie jest od po
sie
att som inte det en ett och av med till ved af til ikke
ve bir bu ile de
yang dan tidak adalah dengan untuk dari pada ini itu
"""
OTHERS = frozenset(OTHER_WORDS.split())


@lru_cache(maxsize=4096)
def is_foreign(text: str) -> bool:
    """Whether most of what tells the language of a text tells another than English or Chinese."""
    if KANA_OR_THAI.search(text):
        return True
    spaced = [word.lower() for word in SPACED_WORD.findall(text)]
    known = len(HAN.findall(text)) + sum(word in ENGLISH for word in spaced)
    other = sum((not word.isascii() or word in OTHERS) and word not in ENGLISH for word in spaced)
    return other > known


def told_whole(source: SourceSentence, claim: str) -> bool:
    """Whether a claim leaves out no word of the sentence; of a row, of no cell that it has words of."""
    said = roots(claim) | numbers(claim)
    parts = [source.text]
    if source.columns:
        parts = [cell for cell in cells_of(source.text) if said & (roots(cell) | numbers(cell))]
    return not any(left_out(part, claim) for part in parts)
