"""What a model says about its text instead of the text: «Sure, here is the story:», titles, word counts."""

import re

YES = r"sure|certainly|of course|okay|好的|当然"
OPENINGS = YES + r"|here(?:'s| is| are)|以下是|下面是|这是"
NOUNS = r"story|chapter|paragraph|continu|version|words|rewrit|ending|故事|续写|正文|改写|如下|一章|段落"
LABELS = r"title|chapter|word count|the end|标题|字数|全文完|完"
TALK = re.compile(
    rf"^\W*(?:{OPENINGS}).{{0,120}}?(?:{NOUNS}).{{0,60}}$"
    rf"|^\W*(?:{YES})\W*$"
    rf"|^\W*(?:{LABELS})\W*(?:[:：].{{0,80}})?$"
    r"|^(?:#+ .*|\*\*[^*]{1,80}\*\*|[-=*_]{3,})$",
    re.IGNORECASE,
)
BEGINS = re.compile(rf"^\W*(?:{OPENINGS}|{LABELS}|#)", re.IGNORECASE)


def is_talk(sentence: str) -> bool:
    """Whether a finished sentence is no part of the text."""
    return bool(TALK.match(sentence.strip()))


def may_be_talk(beginning: str) -> bool:
    """Whether a sentence being written may turn out to be none."""
    return bool(BEGINS.match(beginning))
