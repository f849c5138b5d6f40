"""Negation, opposites, hedges, limits and conditions: whether a claim is as sure as its source and says no opposite."""

import re
from collections.abc import Set
from functools import lru_cache

from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import numbers, root, roots
from app.knowledge.retrieve.scripts import is_unspaced
from app.knowledge.retrieve.segmenting import content_words, words

NEGATION = re.compile(  # with words that deny by what they mean; the roots of verbs, as tokens are compared by them
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|without|rarely|hardly|seldom|instead of|rather than"
    r"|(?:exempt|exclud|forbid|forbad|prohibit|prevent|avoid|refus)\w*"
    r"|(?:nicht|kein\w*|niemals|ohne|niet|geen|zonder|pas|jamais|aucun\w*|sans|nunca|jamás|não|nessun\w*|senza|non|nie"
    r"|bez|inte|ikke|tidak|bukan|değil|не|нет|нельзя|никогда|без|ні|немає|δεν|όχι|χωρίς|không|chưa"
    r"|لا|ليس|لم|لن|بدون|غير|לא|אין|בלי|ללא)(?!-))\b|नहीं|बिना|ไม่|ない|ません|なかっ|않|못하|없|아니|n't\b|不|没|无|未(?!来)|非(?!常)|(?<![分特区级类性个识])别|勿|免(?!费)|禁止|拒绝|很少|难以",
    re.IGNORECASE,
)
EXCEPTION = re.compile(r"\b(?:unless|except|only|provided)\b|除非|除外|只有|仅限", re.IGNORECASE)
CONDITION = re.compile(r"\b(?:if|when|in case)\b([^,;.]*)|(?:如果|假如|若是|一旦)([^，；。]*)", re.IGNORECASE)
HEDGE = re.compile(
    r"\b(?:some|few|sometimes|may|might|perhaps|possibly|wants?|plans?|propos\w+|suggest\w+|intend\w*|asked for)\b"
    r"|部分|有的|有时|有些|可能|也许|提议|建议|希望|打算|计划|几乎",
    re.IGNORECASE,
)
FUTURE = re.compile(r"\b(?:will|shall|going to)\b|'ll\b|预计|即将|将(?:于|在|会|要)", re.IGNORECASE)
OBLIGES = re.compile(
    r"\b(?:must|shall|should|required|(?:have|has|needs?) to)\b|(?<!无)须|需要|务必|应当|应该", re.IGNORECASE
)
PERMITS = re.compile(
    r"\b(?:may|can|could|(?<!not )(?:allowed|permitted))\b(?! not)|可以|(?<!不)允许|(?<!不)能", re.IGNORECASE
)
AT_MOST = re.compile(r"\bup to|at most|no more than|less than|\bunder\b|不超过|至多|最多|最高|以内|以下|低于", re.I)
AT_LEAST = re.compile(
    r"\bat least|no less than|(?<!no )\bmore than|\bover\b|不少于|至少|最少|以上|超过(?<!不超过)", re.I
)
WE = re.compile(r"\b(?:we|us|our|ours)\b|我们|我方|本公司", re.IGNORECASE)
YOU = re.compile(r"\b(?:you|your|yours)\b|[你您]", re.IGNORECASE)
OPPOSITES = [
    ("more", "less"), ("higher", "lower"), ("increase", "decrease"), ("before", "after"), ("first", "last"),
    ("larger", "smaller"), ("always", "never"), ("faster", "slower"), ("minimum", "maximum"), ("above", "below"),
    ("allowed", "forbidden"), ("open", "closed"), ("on", "off"), ("with", "without"), ("inside", "outside"),
    ("raise", "lower"), ("rise", "fall"), ("buy", "sell"), ("start", "end"), ("left", "right"), ("same", "different"),
    ("增加", "减少"), ("提高", "降低"), ("高", "低"), ("之前", "之后"), ("最大", "最小"), ("允许", "禁止"),
    ("打开", "关闭"), ("多", "少"), ("快", "慢"), ("同意", "反对"), ("上升", "下降"), ("以上", "以下"), ("早", "晚"),
    ("上午", "下午"), ("早上", "晚上"), ("以前", "以后"), ("前", "后"), ("男", "女"), ("里", "外"), ("左", "右"),
    ("next", "last"), ("next", "previous"), ("下一", "上一"), ("下次", "上次"), ("下个", "上个"), ("明年", "去年"),
    ("in", "out"), ("up", "down"), ("today", "tomorrow"), ("地面", "地下"), ("室内", "室外"), ("楼上", "楼下"),
]  # fmt: skip


def denies(clause: str, held: Set[str], source: SourceSentence, part: str) -> bool:
    """Whether one of both says «not» of a word of which the other does not."""
    said, stands = _negated(clause), _negated(part)
    if said - source.words and not NEGATION.search(part):
        return True
    return bool((said & source.words) - stands) or any(
        word in held or (is_unspaced(word) and word in clause) for word in stands - said
    )


def negations(text: str) -> int:
    """How often the text says «not»."""
    return len(NEGATION.findall(text))


def _negated(text: str) -> set[str]:
    """The content word behind each negation."""
    behind = [content_words(text[match.end() : match.end() + 60])[:1] for match in NEGATION.finditer(text)]
    return {root(word) for found in behind for word, _, _ in found}


def as_surely(clause: str, part: str) -> bool:
    """Whether the claim keeps what the source limits: «may», «must», «some», «at most»."""
    if HEDGE.search(part) and not HEDGE.search(clause):
        return False
    # what may be done need not be, and so the other way round
    for one, other in ((OBLIGES, PERMITS), (PERMITS, OBLIGES)):
        if one.search(clause) and other.search(part) and not other.search(clause) and not one.search(part):
            return False
    if bool(FUTURE.search(part)) != bool(FUTURE.search(clause)):
        return False
    limits = [(bool(limit.search(clause)), bool(limit.search(part))) for limit in (AT_MOST, AT_LEAST)]
    if any(claimed and not stands for claimed, stands in limits):
        return False
    several = len(numbers(part)) > 1  # then the limit may be on another amount than the claimed one
    return several or not numbers(clause) or all(claimed == stands for claimed, stands in limits)


def conditions_kept(sentence: str, claim: str, question: str) -> bool:
    """Whether an exception is told, and a condition is told or asked about."""
    if EXCEPTION.search(sentence) and not EXCEPTION.search(claim):
        return False
    if CONDITION.search(claim) or CONDITION.search(question):
        return True
    told = roots(claim) | roots(question) | numbers(claim) | numbers(question)
    conditions = [roots(found[1] or found[2]) | numbers(found[1] or found[2]) for found in CONDITION.finditer(sentence)]
    return all(not condition or condition & told for condition in conditions)


def opposed(claim: str, source: str) -> bool:
    """Whether the claim says the opposite of a word of the source, or «you» where it says «we»."""
    for one, other in ((WE, YOU), (YOU, WE)):
        if one.search(claim) and other.search(source) and not one.search(source):
            return True
    said, stands = _word_set(claim), _word_set(source)
    return any(
        (one in said and other not in said and other in stands and one not in stands)
        or (other in said and one not in said and one in stands and other not in stands)
        for one, other in OPPOSITES
    )


@lru_cache(maxsize=4096)
def _word_set(text: str) -> frozenset[str]:
    found = {word for word, _, _ in words(text)}
    parts = {word for pair in OPPOSITES for word in pair if len(word) > 1 and not word.isascii() and word in text}
    return frozenset(found | parts | {root(word) for word in found} | {word.rstrip("sd") for word in found})
