"""The `/story` endpoint as a program uses it."""

from typing import Any

import pytest
from gradio_client import Client

from app.story.length import Target, split_sentences
from tests.fakes import FakeModel
from tests.story.authors import chinese

pytestmark = pytest.mark.usefixtures("author")
COURSE = "请编写一个300字的小故事，描述你作为一个语言模型是如何被训练的。"


def connect(address: str, language: str = "en") -> Client:
    return Client(address, verbose=False, headers={"accept-language": language})


def test_its_inputs_are_the_promised_ones(story_address: str) -> None:
    endpoints = connect(story_address).view_api(return_format="dict")["named_endpoints"]
    names = [parameter["parameter_name"] for parameter in endpoints["/story"]["parameters"]]
    assert names == ["premise", "style", "length", "language", "model", "temperature", "seed"]


def test_it_streams_the_text_so_far(story_address: str, author: FakeModel) -> None:
    job = connect(story_address).submit("A lamp.", "a fairy tale", 120, "en", None, 0.5, 7, api_name="/story")
    text = job.result()
    assert Target(120, "en").met(text)
    for shown in job.outputs():  # the sentence under way may be taken back: it repeats, or is one too many
        assert text.startswith("".join(split_sentences(shown)[:-1]))
    messages, sampling, visitor = author.prompts[0]
    assert "a fairy tale" in messages[0]["content"]
    assert (sampling.temperature, sampling.seed, bool(visitor)) == (0.5, 7, True)


def test_the_course_s_example_needs_nothing_but_itself(story_address: str, author: FakeModel) -> None:
    author.script = chinese()
    text = connect(story_address).predict(COURSE, api_name="/story")
    assert Target(300, "zh").met(text)
    assert COURSE in author.prompts[0][0][0]["content"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"premise": "  "}, "Say first what the story is about"),
        ({"premise": "A lamp.", "length": 0}, "The length cannot be 0"),
        ({"premise": "A lamp.", "length": 10**9}, "The length cannot be 1000000000"),
        ({"premise": "A lamp.", "length": -300}, "The length cannot be -300"),
        ({"premise": "Le gardien a trouvé une bouteille près de l'île."}, "neither Chinese nor English"),
        ({"premise": "Маяк стоял на скале."}, "neither Chinese nor English"),
        ({"premise": "灯台守は手紙を見つけた。"}, "neither Chinese nor English"),
        ({"premise": "A lamp.", "language": "fr"}, "not in fr"),
        ({"premise": "A lamp.", "temperature": 9}, "temperature cannot be 9"),
        ({"premise": "lamp " * 3000}, "room for 1024"),
        ({"premise": "lamp " * 30000}, "room for 20000"),
        ({"premise": "A lamp.", "model": "nope"}, "no model named nope"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(story_address: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        connect(story_address).predict(**arguments, api_name="/story")


@pytest.mark.parametrize("premise", ["Маяк стоял на скале.", "Le gardien a trouvé l'île.", "등대지기가 편지를 찾았다."])
def test_a_premise_in_a_third_language_is_told_in_the_chosen_one(
    story_address: str, author: FakeModel, premise: str
) -> None:
    text = connect(story_address).predict(premise, length=60, language="en", api_name="/story")
    assert Target(60, "en").met(text)
    assert premise in author.prompts[0][0][0]["content"]


def test_refusals_speak_the_caller_s_language(story_address: str) -> None:
    with pytest.raises(Exception, match="长度 3 不可用"):
        connect(story_address, "zh-CN").predict("一盏灯。", length=3, api_name="/story")
