"""Whole stories over a model that writes from a script."""

import threading
from collections.abc import Callable, Sequence
from itertools import count as numbers
from itertools import pairwise

import pytest

from app.errors import Language, UnknownModel
from app.models.interface import Message
from app.story.bible import Bible
from app.story.draft import Draft
from app.story.errors import NoParagraph, PremiseTooLong, WriterLost
from app.story.length import Target, count
from app.story.outline import Chapter
from app.story.request import story_request
from app.story.service import StoryService
from app.story.telling import Writing
from tests.fakes import FakeModel, FakeRegistry
from tests.story.authors import Author, chinese, inventive, looping, pieces


def telling(author: Author, length: int, language: Language = "en", **more: object) -> tuple[list[Writing], FakeModel]:
    model = FakeModel("tiny", author)
    request = story_request("A lamp in the fog.", None, length, language, seed=1, **more)  # type: ignore[arg-type]
    return list(StoryService(FakeRegistry(model)).tell(request, "someone")), model


def texts(tellings: Sequence[Writing]) -> list[str]:
    return [one.text for one in tellings]


@pytest.mark.parametrize("length", [50, 120, 300, 900])
@pytest.mark.parametrize(("language", "author"), [("en", inventive), ("zh", chinese)])
def test_a_writer_who_never_ends_is_led_to_the_length(
    length: int, language: Language, author: Callable[[], Author]
) -> None:
    tellings, _ = telling(author(), length, language)
    assert Target(length, language).met(tellings[-1].text)
    assert tellings[-1].state == "done"


def test_a_writer_who_ends_too_soon_is_asked_to_go_on() -> None:
    tellings, model = telling(inventive(sentences=5), 200)
    assert Target(200, "en").met(tellings[-1].text)
    assert len(model.prompts) > 3


def test_a_story_that_ends_by_itself_in_the_bounds_is_left_alone() -> None:
    tellings, model = telling(inventive(sentences=6), 55)
    assert len(model.prompts) == 1
    assert tellings[-1].text.count(".") == 6


def test_the_end_is_asked_for_before_the_length_is_reached() -> None:
    _, model = telling(inventive(), 300)
    asked = [messages[-1]["content"] for messages, _, _ in model.prompts]
    assert "to its end" in asked[-1]
    assert "to its end" not in asked[0]


def test_nothing_shown_goes_away() -> None:
    shown = texts(telling(inventive(sentences=2), 250)[0])
    assert len(set(shown)) > 8
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))


def test_a_model_that_repeats_is_stopped_and_asked_again_warmer_with_another_seed() -> None:
    author, turn = inventive(sentences=6), numbers()

    def forgetful(messages: Sequence[Message]) -> Sequence[str]:
        return looping(messages) if next(turn) % 2 == 0 else author(messages)

    tellings, model = telling(forgetful, 120)
    assert Target(120, "en").met(tellings[-1].text)
    assert tellings[-1].text.count("thought of home") == 1
    assert tellings[-1].removed >= 2
    samplings = [sampling for _, sampling, _ in model.prompts]
    assert len({sampling.seed for sampling in samplings}) == len(samplings)


def test_a_model_that_only_repeats_is_given_up_and_it_is_said() -> None:
    tellings, model = telling(looping, 300)
    assert tellings[-1].gave_up
    assert tellings[-1].text == "He looked at the sea and thought of home."
    assert max(sampling.temperature for _, sampling, _ in model.prompts) > 1
    assert all(generation.cancelled.is_set() for generation in model.generations)


def test_talk_about_the_story_and_its_instructions_are_left_out() -> None:
    author, turn = inventive(sentences=6), numbers()

    def talkative(messages: Sequence[Message]) -> Sequence[str]:
        lead = "Sure! Here is the story you asked for:\n\n" if next(turn) == 0 else "**Title**\n\nRepeat nothing. "
        return [*pieces(lead), *author(messages)]

    text = telling(talkative, 150)[0][-1].text
    assert "Sure" not in text
    assert "Title" not in text
    assert Target(150, "en").met(text)


def sentence_of(words: int, number: int) -> str:
    """So many new words, with commas enough to cut at."""
    return " ".join(f"w{number}x{place}{',' if place % 5 == 4 else ''}" for place in range(words - 1)) + " end. "


def long_sentences(words: int = 30) -> Author:
    fresh = numbers()
    return lambda _messages: [part for _ in range(4) for part in pieces(sentence_of(words, next(fresh)))]


def test_no_sentence_is_ever_cut_the_nearest_end_is_taken() -> None:
    tellings, model = telling(long_sentences(), 50)  # 43 to 57 words: neither one sentence nor two
    text = tellings[-1].text
    assert count(text, "en") == 60
    assert all(sentence.endswith(" end") for sentence in text.split(".") if sentence)
    assert any("the one sentence that ends it" in messages[-1]["content"] for messages, _, _ in model.prompts)
    assert not tellings[-1].gave_up


def test_a_short_last_sentence_is_asked_for_as_a_task_of_its_own() -> None:
    author = long_sentences()

    def obliging(messages: Sequence[Message]) -> Sequence[str]:
        asked = messages[-1]["content"]
        return (
            pieces("And so the light came back to every house on the whole long shore that very night. ")
            if ("the one sentence that ends it" in asked)
            else author(messages)
        )

    tellings, _ = telling(obliging, 50)
    assert Target(50, "en").met(tellings[-1].text)
    assert tellings[-1].text.endswith("that very night.")


def test_without_a_fitting_end_the_last_sentence_makes_room_for_another() -> None:
    author, turn = long_sentences(40), numbers()

    def longer_later(messages: Sequence[Message]) -> Sequence[str]:
        at = next(turn)
        return author(messages) if at < 5 else pieces(sentence_of(55, 1000 + at))

    tellings, _ = telling(longer_later, 100)  # 85 to 115 words: 80 are too few, 120 and 135 too many
    assert count(tellings[-1].text, "en") == 95


def test_chapters_share_the_length_and_stand_under_their_headings() -> None:
    outline = (Chapter("Fog", "a ship is lost"), Chapter("Light", "it is found"), Chapter("Dawn"))
    tellings, model = telling(inventive(), 600, outline=outline)
    text = tellings[-1].text
    assert Target(600, "en").met(text)
    parts = text.split("## Chapter ")[1:]
    assert [part.split("\n")[0] for part in parts] == ["1: Fog", "2: Light", "3: Dawn"]
    assert all(150 < count(part, "en") < 250 for part in parts)
    assert any("a ship is lost" in messages[-1]["content"] for messages, _, _ in model.prompts)


def test_a_long_story_gets_an_outline_by_itself() -> None:
    author = inventive()

    def planner(messages: Sequence[Message]) -> Sequence[str]:
        if "Outline this story" in messages[-1]["content"]:
            return ["1. Fog: a ship\n", "2. Light: it is found\n"]
        return author(messages)

    text = telling(planner, 1200)[0][-1].text
    assert "## Chapter 2: Light" in text
    assert count(text, "en") > 400


def test_the_bible_stands_in_every_prompt() -> None:
    bible = Bible("A lamp goes out.", ("Mara: the keeper",), ("The island has no power.",))
    _, model = telling(inventive(sentences=6), 200, bible=bible)
    for messages, _, visitor in model.prompts:
        assert "Mara: the keeper" in messages[0]["content"]
        assert visitor == "someone"


def test_a_premise_beyond_the_window_is_refused_with_its_size() -> None:
    model = FakeModel("tiny", inventive(), context_tokens=64)
    request = story_request("word " * 200, None, 100, "en")
    with pytest.raises(PremiseTooLong, match="room for 32"):
        list(StoryService(FakeRegistry(model)).tell(request))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UnknownModel, match="nope"):
        list(StoryService(FakeRegistry()).tell(story_request("A lamp.", model="nope")))


def test_closing_the_story_stops_the_model() -> None:
    model = FakeModel("tiny", inventive(), gate=threading.Semaphore(40))
    running = StoryService(FakeRegistry(model)).tell(story_request("A lamp.", None, 300, "en"))
    while not next(running).text:
        pass
    running.close()  # type: ignore[attr-defined]
    assert model.generations[0].cancelled.is_set()
    assert model.generations[0].completion_tokens < 60


DRAFT = Draft(
    {}, Bible(), paragraphs=("The lamp was out. Nobody came.", "It rained all night on the roof and on the sea.")
)


@pytest.mark.parametrize(("action", "low", "high"), [("rewrite", 4, 16), ("lengthen", 12, 30), ("shorten", 2, 16)])
def test_a_paragraph_is_worked_on_in_place_and_can_be_had_back(action: str, low: int, high: int) -> None:
    service = StoryService(FakeRegistry(FakeModel("tiny", inventive())))
    *_, after = service.rework(story_request("A lamp.", language="en"), DRAFT, 1, action)  # type: ignore[arg-type]
    assert after.paragraphs[0] == DRAFT.paragraphs[0]
    assert after.paragraphs[1] != DRAFT.paragraphs[1]
    assert low <= count(after.paragraphs[1], "en") <= high
    assert len(after.paragraphs) == 2
    assert after.undone() == DRAFT


def test_a_paragraph_is_continued_by_one_after_it() -> None:
    service = StoryService(FakeRegistry(FakeModel("tiny", inventive())))
    *_, after = service.rework(story_request("A lamp.", language="en"), DRAFT, 0, "continue")
    assert (after.paragraphs[0], after.paragraphs[2]) == DRAFT.paragraphs
    assert after.undone() == DRAFT


@pytest.mark.parametrize(("language", "author"), [("en", inventive), ("zh", chinese)])
@pytest.mark.parametrize("action", ["lengthen", "continue"])
def test_a_paragraph_takes_none_of_its_prompt(language: Language, author: Callable[..., Author], action: str) -> None:
    """A small model says back what it was asked, line by line, before it begins."""
    writing, said = author(sentences=2), set()

    def parrot(messages: Sequence[Message]) -> Sequence[str]:
        lines = [line for line in messages[-1]["content"].splitlines() if line not in DRAFT.paragraphs]
        said.update(lines)
        return [*pieces("\n".join(lines) + "\n\n"), *writing(messages)]

    service = StoryService(FakeRegistry(FakeModel("tiny", parrot)))
    *_, after = service.rework(story_request("A lamp", language=language), DRAFT, 0, action)  # type: ignore[arg-type]
    new = after.paragraphs[1 if action == "continue" else 0]
    assert len(said) > 4 and len(new) > 20
    assert not [line for line in said if line.strip() and line in new]


def test_a_wish_reaches_the_model() -> None:
    model = FakeModel("tiny", inventive())
    service = StoryService(FakeRegistry(model))
    list(service.rework(story_request("A lamp.", language="en"), DRAFT, 0, "rewrite", "make it sad"))
    assert "make it sad" in model.prompts[0][0][-1]["content"]


def test_a_model_without_a_word_changes_nothing() -> None:
    service = StoryService(FakeRegistry(FakeModel("tiny", lambda _: [])))
    with pytest.raises(WriterLost):
        list(service.rework(story_request("A lamp.", language="en"), DRAFT, 0, "rewrite"))
    with pytest.raises(NoParagraph):
        list(service.rework(story_request("A lamp.", language="en"), DRAFT, 7, "rewrite"))


def test_the_model_drafts_a_bible_and_an_outline() -> None:
    form = "Synopsis: A lamp goes out.\n**Characters:**\n- Mara: the keeper\n- Tom: her son\nFacts:\n1. No power.\n"
    service = StoryService(FakeRegistry(FakeModel("tiny", lambda _: pieces(form))))
    *_, bible = service.draft_bible(story_request("A lamp."))
    assert bible == Bible("A lamp goes out.", ("Mara: the keeper", "Tom: her son"), ("No power.",))
    assert bible.names == ("Mara", "Tom")
    plan = "Chapter 1: Fog: a ship\n- Light\n"
    service = StoryService(FakeRegistry(FakeModel("tiny", lambda _: pieces(plan))))
    *_, outline = service.draft_outline(story_request("A lamp."))
    assert outline == (Chapter("Fog", "a ship"), Chapter("Light"))
