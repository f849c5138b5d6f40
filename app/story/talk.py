"""Detect what a model says about its text instead of the text: preambles, titles, word counts, its own prompt."""

import re

YES = r"sure|certainly|of course|okay|好的|当然"
OPENINGS = YES + r"|here(?:'s| is| are)|以下是|下面是|这是"
NOUNS = r"story|chapter|paragraph|continu|version|words|rewrit|ending|故事|续写|正文|改写|如下|一章|段落"
LABELS = r"title|chapter|word count|the end|标题|字数|全文完|完"
# What only an instruction says: how many words are still to come, which part of the prompt is meant.
ORDER = re.compile(
    r"\b\d+\s+(?:more\s+)?words\b|\bthe (?:story|text) (?:before|so far)\b.{0,40}$|\bthe paragraph\s*:"
    r"|\bthese facts must stay true\b|\bwrite (?:only )?(?:the text|that paragraph)\b"
    r"|^\W*write a story\b|^\W*请写一个故事"
    r"|约\s*\d+\s*字|\d+\s*字(?:左右|以内)|故事的前文|要改的段落|故事写到这里|只写(?:这一段|故事正文|最后一句)",
    re.IGNORECASE,
)
TALK = re.compile(
    rf"^\W*(?:{OPENINGS}).{{0,120}}?(?:{NOUNS}).{{0,60}}$"
    rf"|^\W*(?:{YES})\W*$"
    rf"|^\W*(?:{LABELS})\W*(?:[:：].{{0,80}})?$"
    r"|^(?:#+ .*|\*\*[^*]{1,80}\*\*|[-=*_]+)$",
    re.IGNORECASE,
)
BEGINS = re.compile(rf"^\W*(?:{OPENINGS}|{LABELS}|#)", re.IGNORECASE)


def is_talk(sentence: str) -> bool:
    """Whether a finished sentence is no part of the text."""
    return bool(TALK.match(sentence.strip()) or ORDER.search(sentence.strip()))


def may_be_talk(beginning: str) -> bool:
    """Whether a sentence being written may turn out to be none."""
    return bool(BEGINS.match(beginning) or ORDER.search(beginning))
