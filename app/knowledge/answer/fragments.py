"""Bare answers: whether a word or a few, which name no subject, are said of what the question asks about."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from app.knowledge.answer.omissions import NEUTRAL, left_out
from app.knowledge.answer.polarity import negations
from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import Token, numbers, root, roots, tokens
from app.knowledge.retrieve.scripts import is_unspaced

EMPTY_WORDS = """
yes no question answer problem following case
问题 答案 回答 情况 以下 下面 如下 这个 那个 这些 那些 一些 关于 对于
"""
SAYS_NOTHING = frozenset(map(root, EMPTY_WORDS.split()))
MOST_WORDS = 3
SAYS_ITSELF = re.compile(  # of whom or that it is: more than an answer's bare words
    r"\b(?:is|are|was|were|be|can|may|must|has|have|had|do|does|did|will|costs?|lasts?|weighs?|it|they|them|this|these|he|she"
    r"|him|her|you)\b|(?<=[\u3400-\u9fff])(?:[是有为会能要须应可不没]|需要)",
    re.IGNORECASE,
)
IRREGULAR = """
choose chose chosen, buy bought, build built, write wrote written, sell sold, pay paid, find found, hold held,
begin began begun, win won, make made, give gave given, take took taken, go went gone, come came, leave left, meet met,
lead led, lose lost, send sent, spend spent, keep kept, say said, tell told, bring brought, think thought, teach taught,
speak spoke spoken, break broke broken, wear wore worn, drive drove driven, grow grew grown, know knew known, draw drew
drawn, fall fell fallen, rise rose risen, sing sang sung, stand stood, run ran, eat ate eaten, see saw seen, get got
"""
FIRST_FORM = {root(form): root(verb) for verb, *forms in map(str.split, IRREGULAR.split(",")) for form in forms}
# What kind of thing is asked for: it need not stand beside it, «blue» is a colour.
KIND = re.compile(
    r"\b(?:what|which|how)\s+(?:kinds?\s+of\s+|types?\s+of\s+|sorts?\s+of\s+|many\s+|much\s+)?(?P<kind>\w+)"
    r"|\b(?:what|which|who)\s+(?:is|are|was|were)\s+(?:the\s+)?(?P<of>\w+)\s+of\b"
    r"|\b(?P<asks>где|когда|кто|что|как|сколько|почему|wo|wann|wer|was|wie|wieviel|où|quand|qui|que|combien|comment|dónde"
    r"|cuándo|quién|qué|cuánto|dove|quando|chi|quanto|onde|quem|waar|wanneer|wie|hoeveel|gdzie|kiedy|kto|ile|nerede|kim"
    r"|kaç|đâu|ai|gì|πού|πότε|ποιος|τι|πόσο|متى|أين|من|ماذا|كم|איפה|מתי|מי|מה|כמה|언제|어디|누구|무엇)\b"
    r"|(?:什么|哪[个种些位]?|多少|几)(?P<han>[\u3400-\u9fff])",
    re.IGNORECASE,
)
HAN_ASKS = re.compile("[谁哪几何]|什么|多少|怎")
CLAIMS_NOTHING = NEUTRAL | {"s", "t", "re", "ll", "ve", "now", "currently", "whom", "whose"}  # «Ada's» is two words
VERB_BEFORE = r"(?:do|does|did|has|have|had|can|could|will|would|should|must|may)"
ASKS_WHO_DOES = re.compile(rf"^\W*who\s+(?!(?:is|are|was|were|{VERB_BEFORE})\b)\w|^\W*谁(?![是的])", re.IGNORECASE)
ASKS_TO_WHOM = re.compile(rf"^\W*(?:whom?|what|which(?:\s+\w+)?)\s+{VERB_BEFORE}\b|(?<!是)谁[？?]?\s*$", re.IGNORECASE)
MEANS = re.compile(r"\W*(?:用|使用|通过|靠|use\b|using\b|with\b|by\b|run\b)", re.IGNORECASE)  # to do something
PASSIVE = re.compile(r"\bby\b|[被由]", re.IGNORECASE)


def is_bare(claim: str, question: str) -> bool:
    """Whether an answer says so little that only the question tells what it is of."""
    said = {each.text for each in tokens(claim)} - SAYS_NOTHING
    if len(said) < 2:
        return True
    asked = _words(question)
    return (
        len(said) <= MOST_WORDS
        and not SAYS_ITSELF.search(claim)
        and not any(_stands(each, asked, question) for each in said)
    )


def says_of_asked(claim: str, question: str, source: SourceSentence) -> bool:
    """Whether the clause that has the answer speaks of all that is asked about, or the answer is a whole clause.

    What it does not name itself it has from its headings; from what is around it only where it has no subject of its
    own: of `Bob's badge is red`, where Ada's was spoken of, nothing is Ada's.
    """
    said = {each.text for each in tokens(claim)} - SAYS_NOTHING
    if len(said) == MOST_WORDS and any(not left_out(clause, claim) for clause in source.clauses):
        return True
    asked = Asked(question, claim, f"{source.heading} {' '.join(source.columns)}")
    clauses = source.clauses
    for size in range(1, MOST_WORDS + 1):
        parts = {at: " ".join(clauses[at : at + size]) for at in range(len(clauses) - size + 1)}
        holding = {at: part for at, part in parts.items() if all(_stands(each, _words(part), part) for each in said)}
        if holding:
            return any(
                asked.is_in_role(part, said)
                if asked.is_named_in(part)
                else asked.is_told_before(part, [source.before, *clauses[:at]])
                or (MEANS.match(part) and not asked.speaks_of(part) and asked.is_named_in(source.text))
                for at, part in holding.items()
            )
    return False


@dataclass(frozen=True)
class Asked:
    """What a question is about, and a bare answer to it; `context` are the headings of the sentence that is read."""

    question: str
    claim: str
    context: str

    @cached_property
    def subjects(self) -> list[str]:
        """The words that say what is asked about."""
        return [each.text for each in tokens(self.question) if not _is_kind(each, self.question)]

    def is_named_in(self, text: str) -> bool:
        """Whether all of it is named there, and denied only where the question denies it."""
        near = f"{text} {self.context}"
        words = _words(near)
        denies = bool(negations(f"{self.question} {self.claim}"))
        return all(_stands(each, words, near) for each in self.subjects) and bool(negations(text)) == denies

    def speaks_of(self, text: str) -> bool:
        """Whether any of it is named there."""
        words = _words(text)
        return any(_stands(each, words, text) for each in self.subjects)

    def is_in_role(self, part: str, said: Set[str]) -> bool:
        """Whether the answer stands on the side of the verb that was asked for: who likes Bob is not whom Bob likes."""
        mine = [each.start for each in tokens(part) if each.text in said and not each.is_amount]
        others = [each.start for each in tokens(part) if _stands(each.text, set(self.subjects), self.question)]
        if not mine or not others or PASSIVE.search(part):
            return True
        if ASKS_WHO_DOES.search(self.question):
            return min(mine) < max(others)
        return not ASKS_TO_WHOM.search(self.question) or max(mine) > min(others)

    def is_told_before(self, part: str, before: Sequence[str]) -> bool:
        """Whether a clause without a subject of its own follows one that names it; nothing else is named between."""
        told = f"{self.claim} {self.question}"
        known = _words(told) | CLAIMS_NOTHING
        for earlier in reversed(before):
            if not all(_stands(each.text, known, told) for each in tokens(part)):
                return False
            if self.is_named_in(f"{earlier} {part}"):
                return True
            part = f"{earlier} {part}"
        return False


def _is_kind(asked: Token, question: str) -> bool:
    """Whether a word of the question is no subject: the kind of thing that it asks for, or what claims nothing."""
    if asked.text in CLAIMS_NOTHING or HAN_ASKS.search(asked.text):
        return True
    return any(
        found.start(group) <= asked.start < found.end(group)
        for found in KIND.finditer(question)
        for group in ("kind", "of", "asks", "han")
        if found[group]
    )


def _words(text: str) -> set[str]:
    found = roots(text)
    return found | numbers(text) | {FIRST_FORM[word] for word in found if word in FIRST_FORM}


def _stands(word: str, words: set[str], text: str) -> bool:
    return word in words or FIRST_FORM.get(word) in words or (is_unspaced(word) and word in text)
