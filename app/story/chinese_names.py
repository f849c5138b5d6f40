"""Find names of people in Chinese text (surnames and segmentation).

jieba's tagger calls too much a person (天亮, 阳光, 明白), so a word must also look like a name, or be treated as one.
"""

import re
from collections.abc import Iterator

SURNAMES = frozenset(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田"
    "任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文关洪柳温麦云梅明"
)
DOUBLE = ("欧阳", "司马", "上官", "诸葛", "司徒", "独孤", "南宫", "慕容", "皇甫", "令狐", "夏侯", "端木", "公孙")
FOREIGN = frozenset(
    "阿埃艾爱安奥巴贝比波伯布查达黛戴丹德蒂多厄恩尔伏弗菲芬哥格古哈汉赫亨霍基吉杰卡凯科克拉莱兰劳勒雷里莉利丽琳隆卢鲁露伦"
    "罗洛玛马曼梅米敏莫姆娜奈尼妮努诺欧帕佩皮珀普奇乔切琼瑞萨赛莎森斯丝苏索塔泰汤特提图托瓦威薇维沃乌西希谢辛休雅亚扬伊因尤"
    "约扎珍朱茨兹佐·"
)
CALLED = ("阿", "小", "老")  # before a part of the name: 阿强, 小芳, 老王
# 金水桥, 黄鹤楼, 胡萝卜: they begin like a name, and are none
THINGS = frozenset("河湖桥市县郡省庙楼塔庄村镇路卜上下里中")
PERSON = re.compile(r"nr\w*$")
HAN = re.compile(r"[\u3400-\u9fff·]{2,6}$")
BEFORE = re.compile(r"(?:名叫|叫做|叫作|名为|告诉|问|对|向着|喊着|遇见|遇到|认识|爱上|我是|我叫|他叫|她叫)$")
AFTER = re.compile(
    r"(?:[轻低大小高冷忙又也]?声?地?|[微苦冷大]|笑着|哭着|连忙|慢慢|终于|立刻|点点头|摇摇头)?"
    r"(?:说|问道|答道|回答|喊|笑了|笑道|叹|点头|摇头|心想|想起|觉得|决定|转身|推开|拿起|伸出手|皱|和他|和她|的母亲|的父亲|的妻子|先生|女士|老师)"
)


def names_in(text: str) -> set[str]:
    """The words of the text that name a person."""
    from jieba import posseg  # takes a second to load its dictionary

    words = [(word, str(kind)) for word, kind in posseg.cut(text)]
    return {name for name, sure in _possible(words) if HAN.match(name) and (sure or _treated_as_one(text, name))}


def _possible(words: list[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
    """(word that may be a name, whether its form alone tells); a surname and a name cut in two are put together."""
    before = ""
    for place, (word, kind) in enumerate(words):
        following = words[place + 1][0] if place + 1 < len(words) else ""
        if word in DOUBLE and len(following) == 1 and HAN.match(word + following):
            yield word + following, True
        elif before in SURNAMES and len(word) == 2 and (PERSON.match(kind) or word[0] == word[1]):
            yield before + word, bool(PERSON.match(kind))
        elif PERSON.match(kind):
            yield word, _looks_sure(word)
        before = word


def _looks_sure(word: str) -> bool:
    """Whether a word that the tagger takes for a person has the form of a name and no other meaning."""
    import jieba

    known = bool(jieba.dt.FREQ.get(word))
    if set(word) <= FOREIGN:
        return True
    if word.startswith(DOUBLE) and len(word) > 2:
        return True
    if word[0] in SURNAMES and len(word) == 3:
        return word[2] not in THINGS
    return not known and len(word) == 2 and (word[0] in SURNAMES or word[0] in CALLED)


def _treated_as_one(text: str, name: str) -> bool:
    """Whether somebody of this name speaks, thinks, is spoken to or introduced anywhere in the text."""
    return any(
        AFTER.match(text[found.end() : found.end() + 8]) or BEFORE.search(text[: found.start()][-4:])
        for found in re.finditer(re.escape(name), text)
    )
