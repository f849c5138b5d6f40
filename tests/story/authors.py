"""Models that write stories from a script: one that always finds new sentences, one that says the same again."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence

from app.models.interface import Message

Author = Callable[[Sequence[Message]], Sequence[str]]
WHO = (
    "The keeper",
    "A sailor",
    "Her brother",
    "The old cook",
    "One of the children",
    "A stranger",
    "The postman",
    "Nobody but Ann",
)
DID = ("opened the", "forgot about the", "dreamed of a", "carried home the", "sold a", "painted the")
WHAT = (
    "red lamp",
    "wooden door",
    "silver key",
    "torn letter",
    "small boat",
    "broken clock",
    "warm loaf",
    "blue coat",
    "map of the bay",
    "grey horse",
)
WHEN = ("in the morning", "before the storm", "after supper", "on the last day of June", "without a word")
WER = ("小猫", "邮差", "厨师", "船长", "孩子们", "陌生人", "老奶奶", "看灯的人")
TAT = ("打开了", "忘记了", "梦见了", "带走了", "画下了", "藏起了")
WAS = ("红色的灯", "木门", "银钥匙", "旧信纸", "小木船", "坏掉的钟", "热面包", "蓝外套", "灰色的马", "海湾地图")
WANN = ("天亮以前", "暴雨来临时", "晚饭过后", "六月的最后一天", "没有说一句话就")


def inventive(sentences: int = 40) -> Author:
    """Goes on for ever with new English sentences, wherever it is asked to go on."""
    fresh = iter(
        shuffled(f"{who} {did} {what} {when}. " for who in WHO for did in DID for what in WHAT for when in WHEN)
    )
    return lambda _messages: [part for text in itertools.islice(fresh, sentences) for part in pieces(text)]


def chinese(sentences: int = 40) -> Author:
    """The same in Chinese."""
    fresh = iter(shuffled(map("{}{}{}{}。".format, *zip(*itertools.product(WANN, WER, TAT, WAS), strict=True))))
    return lambda _messages: list(itertools.islice(fresh, sentences))


def shuffled(texts: Iterable[str]) -> list[str]:
    """In an order that is the same every time and does not say nearly the same twice in a row."""
    listed = list(texts)
    random.Random(4).shuffle(listed)
    return listed


def looping(_messages: Sequence[Message]) -> Sequence[str]:
    return pieces("He looked at the sea and thought of home. " * 200)


def pieces(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]
