"""Amounts in verdicts: a sign and the last nought count; a hyphen, a range and a date are no signs."""

import pytest

from app.knowledge.answer.source_sentences import source_sentences
from app.knowledge.answer.tokens import numbers
from app.knowledge.answer.verdicts import judge
from tests.knowledge.answer.judged import is_held

KEEPS = "The freezer keeps {}."
HOLDS = "冷冻室保持{}。"


@pytest.mark.parametrize("sign", ["-", "−", "–", "minus ", "Minus ", "negative "])
def test_cold_is_not_warm(sign: str) -> None:
    cold, warm = KEEPS.format(f"{sign}18 °C"), KEEPS.format("18 °C")
    assert is_held(cold, cold)
    assert is_held(cold, KEEPS.format("-18 °C"))
    assert is_held(KEEPS.format("-18 °C"), cold)
    assert not is_held(cold, warm)
    assert not is_held(warm, cold)


@pytest.mark.parametrize("cold", ["零下18度", "零下18℃", "-18℃", "−18℃", "零下十八度", "负18度", "零下 18 摄氏度"])
def test_cold_is_not_warm_in_chinese(cold: str) -> None:
    assert is_held(HOLDS.format(cold), HOLDS.format("-18℃"))
    assert is_held(HOLDS.format("-18℃"), HOLDS.format(cold))
    assert not is_held(HOLDS.format(cold), HOLDS.format("18℃"))
    assert not is_held(HOLDS.format("18度"), HOLDS.format(cold))


def test_a_degree_is_no_other_unit() -> None:
    assert not is_held(HOLDS.format("18元"), HOLDS.format("18度"))
    assert not is_held(KEEPS.format("-18 °F"), KEEPS.format("-18 °C"))
    assert not is_held(HOLDS.format("-18℉"), HOLDS.format("-18℃"))
    assert not is_held("It costs $5.", "It costs €5.")
    assert not is_held("It costs $5 a day.", "It costs a day €5.")
    assert is_held("It costs €5 a day.", "It costs €5 a day")


def test_below_zero_behind_the_amount() -> None:
    assert is_held(KEEPS.format("18 °C below zero"), KEEPS.format("-18 °C"))
    assert not is_held(KEEPS.format("18 degrees below zero"), KEEPS.format("18 degrees"))
    assert numbers("18 to 20 degrees below zero") == {"?18", "-20"}


def test_two_equal_sentences_but_for_the_sign_are_two() -> None:
    assert not is_held("It is −5.", "It is 5.")
    assert not is_held("It is 5.", "It is -5.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5-10 days", {"5", "10"}),
        ("5–10 days", {"5", "10"}),
        ("5 - 10 days", {"5", "10"}),
        ("5%-10%", {"5", "10"}),
        ("2024-01-05", {"2024", "01", "05"}),
        ("COVID-19, GP-60, GP‑60, v3.10", set()),
        ("May–5 June", {"5"}),
        ("- 5 apples", {"5"}),
        ("between -5 and -10", {"-5", "-10"}),
        ("(-3), **-4**, =-5, €-6, -€7, | -8 |", {"-3", "-4", "-5", "-6", "-7", "-8"}),
        ("-5 to 10 °C", {"-5", "10"}),
        ("温度为-18", {"-18"}),
        ("minus nine degrees", {"-9"}),
        ("±5 and plus or minus 6", {"±5", "±6"}),
        ("+5", {"5"}),
    ],
)
def test_what_is_a_sign(text: str, expected: set[str]) -> None:
    assert numbers(text) == expected


@pytest.mark.parametrize(
    "text", ["周一-5", "x−5", "10 minus 5", "10 − 5", "5 -10", "minus 18 to 20", "零下18至20度", "-18-20 °C"]
)
def test_what_may_be_a_sign_equals_neither(text: str) -> None:
    (unsure,) = (amount for amount in numbers(text) if amount.startswith("?"))
    assert not numbers(text) & {unsure[1:], f"-{unsure[1:]}"}


@pytest.mark.parametrize(
    ("source", "answer", "held"),
    [
        ("The tool needs Python 3.10.", "The tool needs Python 3.1.", False),
        ("The tool needs Python 3.1.", "The tool needs Python 3.10.", False),
        ("The tool needs Python 3.10.", "The tool needs Python 3.10.", True),
        ("The tool needs Python 3.0.", "The tool needs Python 3.", False),
        ("Release v3.10 is out.", "Release v3.1 is out.", False),
        ("See section 3.10 of the rules.", "See section 3.1 of the rules.", False),
        ("It came out on 05.01.2020.", "It came out on 05.01.202.", False),
        ("The ticket costs 1.20 euros.", "The ticket costs 1.2 euros.", True),
        ("The ticket costs €1.2.", "The ticket costs €1.20.", True),
        ("The beam is 2.50 m long.", "The beam is 2.5 m long.", True),
        ("票价 1.20 元。", "票价 1.2 元。", True),
        ("Das kostet 1.000 Euro.", "Das kostet 1 Euro.", False),
    ],
)
def test_noughts_count_where_they_may(source: str, answer: str, held: bool) -> None:
    assert is_held(source, answer) == held


def test_a_signed_amount_is_shown_where_it_stands() -> None:
    text = "冷冻室保持零下18度。"
    (verdict,) = judge("冷冻室保持-18℃。", "?", list(source_sentences(1, text)), [text])
    assert "18" in "".join(text[start:end] for start, end in verdict.spans)
