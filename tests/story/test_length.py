"""Counting, sentence ends, and the bounds of a length."""

import pytest

from app.story.length import SentenceReader, Target, count, ends_whole, finished, split_sentences


def test_english_counts_words_and_chinese_characters() -> None:
    assert count("Don't panic: 42 well-known facts.", "en") == 5
    assert count("你好，世界。 再见", "zh") == 8


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", " Two!", " Three?"]),
        ("Mr. Smith paid 3.50 to J. Bell. He left.", ["Mr. Smith paid 3.50 to J. Bell.", " He left."]),
        ('She said: "Go." Then she went.', ['She said: "Go."', " Then she went."]),
        ("他说：“走吧。”她走了！好", ["他说：“走吧。”", "她走了！", "好"]),
        ("A line\n\nAnother line.", ["A line", "\n\nAnother line."]),
    ],
)
def test_sentences_end_where_a_reader_would_say(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_the_same_sentences_whatever_the_pieces() -> None:
    text = "“No.” He had 3.5 coins... Dr. Who laughed!\n\n他笑了。“好吗？”她问。End."
    for size in (1, 2, 5, len(text)):
        reader = SentenceReader()
        found = [s for at in range(0, len(text), size) for s in reader.push(text[at : at + size])]
        assert "".join([*found, reader.rest]) == text
        assert [s.strip() for s in found] == [s.strip() for s in split_sentences(text)][: len(found)]
        assert len(found) >= 5


def test_an_open_sentence_is_closed_with_its_own_mark() -> None:
    assert finished("He went home, ") == "He went home."
    assert finished("他回家了，") == "他回家了。"
    assert finished('"Yes!" ') == '"Yes!"'


def test_a_target_is_met_within_its_bounds_and_on_a_whole_sentence() -> None:
    target = Target(20, "zh")
    assert (target.low, target.high) == (17, 23)
    assert target.met("字" * 19 + "。")
    assert not target.met("字" * 20)
    assert not target.met("字" * 23 + "。")
    assert not ends_whole("He said")
