"""Bare answers («Red.»): held only by what speaks of the thing that was asked about."""

import pytest

from tests.knowledge.answer.judged import is_held

TWO = "Bob's badge is red. Ada's badge is blue."
ONE = "Bob's badge is red and Ada's badge is blue."
TABLE = "| Name | Badge |\n|---|---|\n| Bob | red |\n| Ada | blue |"
ADA = "What colour is Ada's badge?"
CHINESE = "小明的徽章是红色的。小红的徽章是蓝色的。"
HONG = "小红的徽章是什么颜色？"


@pytest.mark.parametrize(
    ("source", "question", "answer"),
    [
        (TWO, ADA, "Blue."),
        (TWO, "What colour is Bob's badge?", "Red."),
        (ONE, ADA, "Blue."),
        (TABLE, ADA, "Blue."),
        (CHINESE, HONG, "蓝色。"),
        (CHINESE.replace("。小", "，小"), HONG, "蓝色。"),
        ("Ada has a badge. It is blue.", ADA, "Blue."),
        ("Ada's badge is round, blue and small.", ADA, "Blue."),
        ("Ada's badge is bright blue.", ADA, "Bright blue."),
        ("Ada's badge is blue, Bob's is red.", "What colour is Bob's badge?", "Red."),
        ("The committee chose Alder on Monday.", "What did the committee choose?", "Alder."),
        ("Ada Lovelace was born in 1815 in London.", "When was Ada Lovelace born?", "In 1815."),
        ("Ada Lovelace was born in 1815 in London.", "Where was Ada Lovelace born?", "London."),
        ("Author: Ann Lee, translator: Bo Kim", "Who is the author?", "Ann Lee"),
        ("作者：李明\n译者：王芳", "作者是谁？", "李明"),
        ("会议在周二举行，聚会在周五举行。", "会议在哪天举行？", "周二。"),
        ("小红的徽章特别好看，是蓝色。", "小红的徽章是什么颜色？", "蓝色。"),
        ("Ada likes Bob. Bob likes Eve.", "Who likes Bob?", "Ada."),
        ("Ada likes Bob. Bob likes Eve.", "Whom does Bob like?", "Eve."),
        ("Eve is liked by Bob.", "Who likes Eve?", "Bob."),
        ("Dogs and cats are allowed, birds are not.", "Which animals are not allowed?", "Birds."),
        ("Dogs and cats are allowed, birds are not.", "Which animals are allowed?", "Dogs and cats."),
        ("The fee is 30 euros for members and 50 euros for guests.", "What is the fee for guests?", "50 euros."),
        ("Ада живёт в Москве.", "Где живёт Ада?", "В Москве."),
    ],
)
def test_a_right_answer_is_held(source: str, question: str, answer: str) -> None:
    assert is_held(source, answer, question)


@pytest.mark.parametrize(
    ("source", "question", "answer"),
    [
        (TWO, ADA, "Red."),
        (TWO, ADA, "Red"),
        (TWO, "What colour is Eve's badge?", "Red."),
        (ONE, ADA, "Red."),
        ("Ada's badge is blue and Bob's badge is red.", ADA, "Red."),
        ("Ada's badge is blue, Bob's is red.", ADA, "Red."),
        ("Ada's badge is blue. Red is Bob's badge.", ADA, "Red."),
        (TABLE, ADA, "Red."),
        (CHINESE, HONG, "红色。"),
        (CHINESE.replace("。小", "，小"), HONG, "红色。"),
        ("Bob came. His badge is bright red. Ada's badge is blue.", ADA, "Bright red."),
        ("The right door is red.", "What colour is the left door?", "Red."),
        ("Ada Lovelace was born in 1815. Babbage was born in 1791.", "When was Ada Lovelace born?", "1791."),
        ("Author: Ann Lee, translator: Bo Kim", "Who is the author?", "Bo Kim"),
        ("- Author: Ann Lee\n- Translator: Bo Kim", "Who is the author?", "Bo Kim"),
        ("作者：李明\n译者：王芳", "作者是谁？", "王芳"),
        ("会议在周二举行，聚会在周五举行。", "会议在哪天举行？", "周五。"),
        ("Ada likes Bob. Bob likes Eve.", "Who likes Bob?", "Eve."),
        ("Ada likes Bob. Bob likes Eve.", "Whom does Ada like?", "Eve."),
        ("Bob likes Ada.", "Whom does Ada like?", "Bob."),
        ("Dogs and cats are allowed, birds are not.", "Which animals are allowed?", "Birds."),
        ("Ada's badge is not red.", ADA, "Red."),
        ("The fee is 30 euros for members and 50 euros for guests.", "What is the fee for guests?", "30"),
        ("Значок Ады синий. Значок Боба красный.", "Какого цвета значок Ады?", "Красный."),
    ],
)
def test_what_is_said_of_another_is_not_held(source: str, question: str, answer: str) -> None:
    assert not is_held(source, answer, question)


def test_the_heading_names_what_is_spoken_of() -> None:
    assert is_held("The badge is blue.", "Blue.", ADA, heading="Ada")
    assert not is_held("The badge is blue.", "Blue.", ADA, heading="Bob")
