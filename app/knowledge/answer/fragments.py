"""Bare answers: whether a word or a few, which name no subject, are said of what the question asks about."""

import re
from collections.abc import Sequence, Set

from app.knowledge.answer.omissions import NEUTRAL, left_out
from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import Token, numbers, root, roots, tokens
from app.knowledge.retrieve.scripts import is_unspaced

EMPTY_WORDS = """
yes no question answer problem following case
问题 答案 回答 情况 以下 下面 如下 这个 那个 这些 那些 一些 关于 对于
"""
SAYS_NOTHING = frozenset(map(root, EMPTY_WORDS.split()))
MOST_WORDS = 3
HAS_VERB = re.compile(
    r"\b(?:is|are|was|were|be|can|may|must|has|have|had|do|does|did|will|costs?|lasts?|weighs?)\b", re.IGNORECASE
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
    r"|(?:什么|哪[个种些位]?|多少|几)(?P<han>[\u3400-\u9fff]{1,4})",
    re.IGNORECASE,
)
LETTERS_CUT_OFF = frozenset({"s", "t", "re", "ll", "ve"})  # of «Ada's» and «don't»


def is_bare(claim: str, question: str) -> bool:
    """Whether an answer says so little that only the question tells what it is of."""
    said = {each.text for each in tokens(claim)} - SAYS_NOTHING
    if len(said) < 2:
        return True
    asked = _words(question)
    return (
        len(said) <= MOST_WORDS
        and not HAS_VERB.search(claim)
        and not any(_stands(each, asked, question) for each in said)
    )


def says_of_asked(claim: str, question: str, source: SourceSentence) -> bool:
    """Whether a clause that has the answer speaks of all that is asked about, or the answer is the whole clause.

    What it does not name itself it has from its headings; from what is around it only where it has no subject of its
    own: of `Bob's badge is red`, where Ada's was spoken of, nothing is Ada's.
    """
    said = {each.text for each in tokens(claim)} - SAYS_NOTHING
    asked = [each for each in tokens(question) if not _is_kind(each, question)]
    context = f"{source.heading} {' '.join(source.columns)}"
    before = source.before
    for clause in source.clauses:
        if all(_stands(each, _words(clause), clause) for each in said):
            if len(said) > 1 and not left_out(clause, claim):
                return True
            if _names(f"{clause} {context}", asked):
                return True
            if _adds_nothing(clause, claim, question) and _names(f"{before} {clause} {context}", asked):
                return True
            if _is_of_sentence(clause, said, asked) and _names(f"{source.text} {context}", asked):
                return True
        before = f"{before} {clause}"
    return False


def _is_of_sentence(clause: str, said: Set[str], asked: Sequence[Token]) -> bool:
    """Whether a clause begins with the answer and speaks of nothing that is asked, so that its sentence tells of what.

    It is no clause of a like thing: `use tmux, so that the training goes on`.
    """
    found, words = tokens(clause), _words(clause)
    return found[0].text in said and not any(_stands(each.text, words, clause) for each in asked)


def _is_kind(asked: Token, question: str) -> bool:
    """Whether a word of the question is no subject: the kind of thing that it asks for, or what claims nothing."""
    if asked.text in NEUTRAL or asked.text in LETTERS_CUT_OFF:
        return True
    return any(
        found.start(group) <= asked.start < found.end(group)
        for found in KIND.finditer(question)
        for group in ("kind", "of", "asks", "han")
        if found[group]
    )


def _names(text: str, asked: Sequence[Token]) -> bool:
    words = _words(text)
    return all(_stands(each.text, words, text) for each in asked)


def _adds_nothing(clause: str, claim: str, question: str) -> bool:
    """Whether a clause has no words but the answer's and the question's, so that it has no subject of its own."""
    told = f"{claim} {question}"
    known = _words(told) | NEUTRAL | LETTERS_CUT_OFF
    return all(_stands(each.text, known, told) for each in tokens(clause))


def _words(text: str) -> set[str]:
    found = roots(text)
    return found | numbers(text) | {FIRST_FORM[word] for word in found if word in FIRST_FORM}


def _stands(word: str, words: set[str], text: str) -> bool:
    return word in words or FIRST_FORM.get(word) in words or (is_unspaced(word) and word in text)
