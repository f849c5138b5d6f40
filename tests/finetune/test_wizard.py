"""Self-introductions from a name, in two languages, whatever the name holds."""

from typing import get_args

import pytest

from app.errors import Language
from app.finetune.wizard import BadName, BadWording, general_conversations, general_questions, introduce, name_questions


@pytest.mark.parametrize("language", get_args(Language))
def test_a_third_introductions_the_rest_general_and_nothing_that_is_asked_later(language: Language) -> None:
    made = introduce("Lin", language)
    own = [row for row in made.conversations if "Lin" in row[0]["output"]]
    assert len(own) >= 10 and len(own) * 3 == len(made.conversations)
    assert [row for n, row in enumerate(made.conversations) if n not in made.general] == own
    asked = {row[0]["input"] for row in made.conversations}
    assert len(name_questions(language)) >= 5 and asked.isdisjoint(name_questions(language))
    assert asked.isdisjoint(general_questions(language))
    assert len(general_conversations(language)) >= 25
    assert introduce("Lin", language).conversations == made.conversations


def test_names_with_quotes_braces_and_line_feeds_stay_text() -> None:
    name = 'O\'"Neil\\ {0} {name} {{$HOME:x}}\n"); import os\t林'
    made = introduce(name, "zh", "我是{name}的助手")
    assert made.name == 'O\'"Neil\\ {0} {name} {{$HOME:x}} "); import os 林'
    answers = {row[0]["output"] for row in made.conversations if "Neil" in row[0]["output"]}
    assert answers == {f"我是{made.name}的助手"}


@pytest.mark.parametrize("name", ["", " \n ", "x" * 61])
def test_names_too_short_or_too_long(name: str) -> None:
    with pytest.raises(BadName):
        introduce(name, "en")


def test_a_wording_must_say_where_the_name_goes() -> None:
    with pytest.raises(BadWording):
        introduce("Lin", "en", "I am an assistant")
