"""Quotes: the best sentences of the documents, word for word; how passages are split into sentences."""

from contextlib import nullcontext

from app.knowledge.answer.quotes import choose_quotes, read
from app.knowledge.answer.source_sentences import SourceSentence, source_sentences
from app.knowledge.retrieve.retrieval import Hit
from app.knowledge.store.snapshot import StoredPassage
from tests.knowledge.answer.test_verdicts import PASSAGES, TEXTS
from tests.knowledge.words import WordEmbedder


def hit(number: int, title: str, text: str) -> Hit:
    return Hit(StoredPassage(1, number, 1, "a.md", 0, len(text), None, (title,), text), 1.0, 1.0)


def test_quotes_are_the_words_of_the_documents() -> None:
    hits = [hit(number, *passage) for number, passage in enumerate(PASSAGES)]
    embedder = WordEmbedder()
    for question, expected in (
        ("What does the Cedar cost a day?", "It costs 52 euros a day and carries 8 people."),
        ("乙方案每月多少元？", "甲方案每月 14 元，乙方案每月 31 元。"),
        ("How long does the battery of the Birch last?", "| Birch | 31 | 9 h |"),
    ):
        quotes = choose_quotes(read(question, hits, lambda: nullcontext(embedder)))
        assert expected in [quote.text for quote in quotes]
        assert all(TEXTS[quote.number - 1][quote.start : quote.end] == quote.text for quote in quotes)
    assert choose_quotes(read("x", [], lambda: nullcontext(embedder))) == ()


def test_a_continued_table_and_an_abbreviation() -> None:
    (row,) = source_sentences(1, "| 7 | red |", ("Staff", "id | badge colour"))
    assert row.columns == ("id", "badge colour") and row.clauses == ["badge colour 7 red"]
    found: list[SourceSentence] = list(source_sentences(1, "Use e.g. the pump. Then stop."))
    assert [sentence.text for sentence in found] == ["Use e.g. the pump.", "Then stop."]
    warm = source_sentences(1, "It stops at 130 °C. It starts again. J. Smith left.")
    assert [sentence.text for sentence in warm] == ["It stops at 130 °C.", "It starts again.", "J. Smith left."]
