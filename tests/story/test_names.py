"""Which names of a text contradict its bible."""

import pytest

from app.story.bible import Bible
from app.story.names import Stranger, strangers

CAST = Bible("", ("Mara Lind: the keeper", "Tom: her son"), ("They live on Skerry.",))
ROLLEN = Bible("海边的灯塔", ("林小雨：十岁，怕黑", "王建国：看灯人"), ())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Mara lit the lamp. Tom, who was tired, went home to Skerry.", ""),
        ("Then Boris knocked and asked for bread.", "Boris"),
        ('"Good night," said Anna. Suddenly the Sea was still.', "Anna Sea"),
        ("It was Tuesday in June, and Dr. Mara spoke English to her Mother.", ""),
        ("Night came… Then rain fell. 'Why?' Nobody knew. - Perhaps it was THE END.", ""),
        ("Tom's lamp was out. He ran. Lamps burned in the town, and lamps on the Lamps' shelf.", ""),
        ("A man called O'Neill waved to Tom-Tom.", "O'Neill Tom-Tom"),
    ],
)
def test_english_names_that_are_not_in_the_cast(text: str, names: str) -> None:
    assert {one.name for one in strangers(text, CAST, "en")} == set(names.split())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("林小雨推开门，王建国对她笑了。", ""),
        ("小猫画了一幅画，天亮以前睡着了。", ""),
        ("温暖的阳光照着和平的村子，高兴的孩子们跑来跑去。", ""),
        ("她明白了，白云飘过，金色的麦田一直连到天边。", ""),
        ("洪水退去，钟声响起，宁静的小镇上白雪皑皑。", ""),
        ("熊猫在柳树下睡着了，雷雨过去，黎明到来，康复的人走过金水桥去买胡萝卜。", ""),
        ("于是他连忙张开双手，方才的毛笔掉在地上，孩子们常常向往明月。", ""),
        ("邮差问船长：“灯塔在哪里？”", ""),
        ("赵一鸣说他从北方来。", "赵一鸣"),
        ("陈默沉默了很久，阿强和小芳都没有说话。", "陈默 阿强 小芳"),
        ("安娜和汤姆来到岛上，艾米丽说她不喜欢雨天。", "安娜 汤姆 艾米丽"),
        ("诸葛明走进店里，欧阳雪在等他，张老师也来了。", "诸葛明 欧阳雪 张老师"),
        ("关羽大喊一声，刘婷婷转身就跑。", "关羽 刘婷婷"),
    ],
)
def test_chinese_names_that_are_not_in_the_cast(text: str, names: str) -> None:
    assert {one.name for one in strangers(text, ROLLEN, "zh")} == set(names.split())


def test_a_misspelt_name_comes_first_with_the_one_it_looks_like() -> None:
    found = strangers("Boris met Maara. Near the sea Maara saw Boris, and Boris ran.", CAST, "en")
    assert found == [Stranger("Maara", 2, "Mara"), Stranger("Boris", 2)]
    [one] = strangers("林晓雨怕黑。大家都喜欢林晓雨。", ROLLEN, "zh")
    assert one == Stranger("林晓雨", 2, "林小雨")
    [one] = strangers("王建军点亮了灯。", ROLLEN, "zh")
    assert one.looks_like == "王建国"


def test_without_a_cast_nothing_contradicts_it() -> None:
    assert strangers("Boris came along with Anna.", Bible("A story of Boris."), "en") == []
