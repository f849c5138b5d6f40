"""Sentences that leave unsaid what they speak of: supported only where the source speaks of the same thing."""

import pytest

from app.knowledge.answer.source_sentences import source_sentences
from app.knowledge.answer.verdicts import judge

PASSAGES = [
    (("Club minutes",), "The lock of the back door will be changed. Keys are handed out against a deposit of £10."),
    (("Tenancy agreement", "Deposit"), "The deposit is returned within eight weeks after the keys were handed back."),
    (
        ("Troubleshooting", "Repetition"),
        "Endless repetition is typical of small models at temperature zero. Raise the temperature to 0.5.",
    ),
    (
        ("Pump", "Care"),
        "Clean the filter every 50 hours with a soft brush. Empty the pump completely and store it in a dry room.",
    ),
    (("量化", "8 比特量化"), "8 比特量化几乎不损失质量。"),
    (("量化", "4 比特量化"), "代价是计算前要先还原。"),
    (
        ("净化器", "滤网"),
        "HEPA 滤网六到八个月需要更换。活性炭滤网的寿命约一年。如果在新装修的房间里使用，寿命会缩短到三个月。",
    ),
]
TEXTS = [text for _, text in PASSAGES]
SOURCES = [each for number, (title, text) in enumerate(PASSAGES, 1) for each in source_sentences(number, text, title)]


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        # An instruction, of what stands before it in the source.
        (
            "Why does it ramble on?",
            "It rambles on as its temperature is zero. You can raise the temperature to 0.5.",
            [0, 0],
        ),
        ("Why does it ramble on?", "Its temperature is zero. Raise the temperature to 0.5.", [0, 0]),
        (
            "What of small models?",
            "Endless repetition is typical of small models at temperature zero. You can raise the temperature to 0.5.",
            [3, 3],
        ),
        ("How do I stop the repetition?", "Raise the temperature to 0.5.", [3]),
        (
            "How often is the filter cleaned?",
            "Clean the filter every 50 hours with a soft brush. Store it in a dry room.",
            [4, 0],
        ),
        ("What of the pump in winter?", "Empty the pump completely and store it in a dry room.", [4]),
        # «The deposit», where a nearer document speaks of another one.
        (
            "How do I get a key?",
            "Keys are handed out against a deposit of £10. The deposit is returned within eight weeks after the keys "
            "were handed back.",
            [1, 0],
        ),
        (
            "What does the tenancy agreement say?",
            "The deposit is returned within eight weeks after the keys were handed back.",
            [2],
        ),
        # Without a subject, below a heading with another number.
        ("8 比特量化质量怎么样？", "8 比特量化几乎不损失质量。代价是计算前要先还原。", [5, 0]),
        ("4 比特量化的代价是什么？", "代价是计算前要先还原。", [6]),
        # A condition, of what stands before it; and a wrong sentence tells nobody what is spoken of.
        ("HEPA 滤网多久换？", "HEPA 滤网六到八个月需要更换。如果在新装修的房间里使用，寿命会缩短到三个月。", [7, 0]),
        ("活性炭能用多久？", "活性炭滤网的寿命约一年。如果在新装修的房间里使用，寿命会缩短到三个月。", [7, 7]),
        ("能用多久？", "活性炭滤网的寿命约两年。如果在新装修的房间里使用，寿命会缩短到三个月。", [0, 0]),
    ],
)
def test_what_an_unnamed_subject_is(question: str, answer: str, expected: list[int]) -> None:
    assert [verdict.passage for verdict in judge(answer, question, SOURCES, TEXTS)] == expected
