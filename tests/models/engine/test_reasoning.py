"""Reasoning apart from the answer, by the marks of each family, however the text is cut; stop strings; its budget."""

import pytest

from app.models.engine.reasoning import (
    CHANNELS,
    FORMATS,
    THINK,
    AnswerSplitter,
    ReasoningFormat,
    format_of,
    switch_of,
    thinking_of,
)
from app.models.engine.reasoning_budget import ReasoningBudget

QWEN = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}{{ messages }}"
THOUGHT = "<think>\nA < B?\n</think>\n\nYes.\n"
CHANNELED = "<|channel|>analysis<|message|>A < B?\n<|end|><|start|>assistant<|channel|>final<|message|>Yes.\n"


def split(splitter: AnswerSplitter, text: str, width: int) -> tuple[str, str]:
    """(reasoning, answer) of a text that comes in pieces of this width."""
    parts = [part for at in range(0, len(text), width) for part in splitter.push(text[at : at + width])]
    parts += splitter.finish()
    kinds = ("reasoning", "answer")
    reasoning, answer = ("".join(part.text for part in parts if part.kind == kind) for kind in kinds)
    assert splitter.reasoning == reasoning
    return reasoning, answer


@pytest.mark.parametrize("width", [1, 2, 7, 100])
@pytest.mark.parametrize(
    ("marks", "text", "is_open"),
    [(THINK, THOUGHT, False), (THINK, THOUGHT.removeprefix("<think>\n"), True), (CHANNELS, CHANNELED, False)],
    ids=["think", "opened by the prompt", "channels"],
)
def test_reasoning_is_told_from_the_answer(marks: object, text: str, is_open: bool, width: int) -> None:
    assert split(AnswerSplitter(marks, is_open=is_open), text, width) == ("A < B?\n", "Yes.\n")


@pytest.mark.parametrize("marks", [one for one in FORMATS if one is not CHANNELS], ids=lambda one: one.starts[0])
def test_marks_of_every_family_are_told_wherever_the_text_is_cut(marks: ReasoningFormat) -> None:
    start, end = marks.starts[0], marks.ends[0]
    for text, told in (
        (f"\n {start}\nA < B?{end}\n\nYes {start} no {end}.", ("A < B?", f"Yes {start} no {end}.")),
        (f"plain {end} x", ("", f"plain {end} x")),
        (f"{start}half {end[:-1]}", (f"half {end[:-1]}", "")),
    ):
        assert {cut_once(AnswerSplitter(marks), text, at) for at in range(len(text))} == {told}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|end|>", ("{}", "")),
        (
            "<|channel|>analysis<|message|>I call<|end|><|start|>assistant to=functions.f<|channel|>commentary"
            " json<|message|>{}<|end|><|start|>assistant<|channel|>final <|constrain|>JSON<|message|>[1]",
            ("I call{}", "[1]"),
        ),
        ("<|channel|>final<|message|>One.<|end|><|start|>assist", ("", "One.")),
    ],
)
def test_a_header_may_name_a_recipient_and_a_form(text: str, told: tuple[str, str]) -> None:
    assert {cut_once(AnswerSplitter(CHANNELS), text, at) for at in range(len(text))} == {told}


def cut_once(splitter: AnswerSplitter, text: str, at: int) -> tuple[str, str]:
    parts = [*splitter.push(text[:at]), *splitter.push(text[at:]), *splitter.finish()]
    return tuple("".join(part.text for part in parts if part.kind == kind) for kind in ("reasoning", "answer"))  # type: ignore[return-value]


@pytest.mark.parametrize("width", [1, 50])
@pytest.mark.parametrize(
    "text", [" Plain text.", "Write <think> and </think> so.", "1 < 2", "\n\nTwo lines", "<thin", "  "]
)
def test_an_answer_without_reasoning_stays_as_it_is(text: str, width: int) -> None:
    assert split(AnswerSplitter(), text, width) == ("", text)
    assert split(AnswerSplitter(None), text, width) == ("", text)


def test_stop_strings_end_the_answer_and_not_the_reasoning() -> None:
    splitter = AnswerSplitter(stop=["观察:", "END"])
    assert split(splitter, "<think>END</think>思考 E观察: 没有", 1) == ("END", "思考 E")
    assert splitter.stopped
    assert split(AnswerSplitter(stop=["STOP"]), "a STO", 1) == ("", "a STO"), "what only looked like one is shown"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Plain answer with <|channel|> mention and a lot of text behind", None),
        ("`<|channel|>analysis` and `<|start|>` are marks.", None),
        ("Yes.<|channel|>commentary to=functions.f <|constrain|>js", "Yes."),
        ("Yes.<|start|>assistant to=functions.f<|chan", "Yes."),
    ],
)
def test_only_a_header_that_was_cut_short_is_dropped_at_the_end(text: str, told: str | None) -> None:
    assert {cut_once(AnswerSplitter(CHANNELS), text, at) for at in range(len(text))} == {("", told or text)}


def test_templates_tell_their_marks_and_their_switch() -> None:
    assert (format_of(QWEN), switch_of(QWEN), thinking_of(QWEN)) == (THINK, "enable_thinking", "optional")
    assert thinking_of("{{ messages }}<think>\n") == "always"
    assert thinking_of("{{ messages }}{% set enable_thinking = 1 %}") == "never"
    assert format_of("<|start|>assistant<|channel|>final<|message|>") is CHANNELS


def test_earlier_reasoning_is_not_read_again() -> None:
    assert THINK.without_reasoning(THOUGHT) == "Yes.\n"
    assert CHANNELS.without_reasoning(CHANNELED) == "Yes.\n"
    assert THINK.without_reasoning("An answer.") == "An answer."


def test_reasoning_is_closed_when_its_budget_is_spent_and_only_then() -> None:
    def forced(said: list[str], is_open: bool) -> list[int | None]:
        """What is forced after each token; a forced one says what it closes with."""
        budget = ReasoningBudget(3, THINK, [7, 8], lambda tokens: "".join(words[token] for token in tokens), is_open)
        words, tokens, found = {7: "</think>", 8: "\n"}, [], []
        for number, word in enumerate(said, start=100):
            found.append(budget.next(tokens))
            words[number] = word
            tokens.append(number if found[-1] is None else found[-1])
        return found

    assert forced(["a"] * 8, True) == [None, None, None, 7, 8, None, None, None]
    assert forced(["<think>", *"abcdef"], False) == [None, None, None, None, 7, 8, None]
    assert forced(["a", "</think>", *"bcdef"], True) == [None] * 7
    assert forced(["no"] * 8, False) == [None] * 8
    assert forced(["The ", "`<think>", *"abcdef"], False) == [None] * 8, "an answer that names the mark"
    assert forced(["\n", " <thi", "nk>", *"abcdef"], False) == [None] * 6 + [7, 8, None]
