"""Verdicts in other languages than Chinese and English: held is what repeats a sentence of its source, nothing less."""

import pytest

from tests.knowledge.answer.judged import is_held

TRUE = [
    "Насос останавливается при температуре 130 °C.",
    "Η γάτα τρώει ψάρι.",
    "고양이는 생선을 먹는다.",
    "Die Tür öffnet um neun Uhr.",
    "La pompe marche en été.",
    "Kot je rybę.",
    "Con mèo ăn cá.",
    "Kedi balık yer.",
    "القط يأكل السمك.",
    "החתול אוכל דג.",
    "बिल्ली मछली खाती है।",
    "猫は魚を食べる。",
    "ประตูเปิดเวลา 9 นาฬิกา",
]


@pytest.mark.parametrize("sentence", TRUE)
def test_what_the_source_says_is_held(sentence: str) -> None:
    assert is_held(f"{sentence}\n1984", sentence)
    assert is_held(sentence, sentence.replace(" ", " – ", 1)), "not letter by letter"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Насос останавливается при температуре 130 °C.", "Насос включается при температуре 130 °C."),
        ("Насос не работает зимой.", "Насос работает зимой."),
        ("Насос работает зимой.", "Насос не работает зимой."),
        ("Если вода холодная, насос не работает.", "Насос не работает."),
        ("Die Katze frisst den Fisch nicht.", "Die Katze frisst den Fisch."),
        ("Die Katze frisst den Fisch.", "Die Katze frisst den Fisch nicht."),
        ("Die Tür öffnet um neun Uhr.", "Die Tur öffnet um neun Uhr."),
        ("La bomba no funciona en invierno.", "La bomba funciona en invierno."),
        ("La pompe ne marche pas en été.", "La pompe marche en été."),
        ("Η γάτα δεν τρώει ψάρι.", "Η γάτα τρώει ψάρι."),
        ("Con mèo ăn cá.", "Con mèo ăn cà."),
        ("고양이는 생선을 먹지 않는다.", "고양이는 생선을 먹는다."),
        ("القط لا يأكل السمك.", "القط يأكل السمك."),
        ("القط يأكل السمك. الكلب يأكل الخبز.", "القط يأكل الخبز."),
        ("बिल्ली मछली नहीं खाती है।", "बिल्ली मछली खाती है।"),
        ("बिल्ली मछली खाती है। कुत्ता रोटी खाता है।", "बिल्ली रोटी खाती है।"),
        ("猫は魚を食べない。", "猫は魚を食べる。"),
        ("猫は魚を食べる。", "猫は魚を食べない。"),
        ("会議は火曜日です。", "会議は水曜日です。"),
        ("ประตูเปิดเวลา 9 นาฬิกา", "ประตูปิดเวลา 9 นาฬิกา"),
        ("温度は -18℃ です。", "温度は 18℃ です。"),
    ],
)
def test_what_it_does_not_say_is_not_held(source: str, answer: str) -> None:
    assert not is_held(source, answer)


@pytest.mark.parametrize(
    ("one", "other"), [("बिल्ली मछली खाती है।", "कुत्ता रोटी खाता है।"), ("القط يأكل السمك؟", "الكلب يأكل الخبز.")]
)
def test_sentences_end_by_their_own_signs(one: str, other: str) -> None:
    assert is_held(f"{one} {other}", one)
    assert is_held(f"{one} {other}", other)


def test_an_english_sentence_with_foreign_names_is_english() -> None:
    assert is_held("The Müller family owns the big pump in Köln.", "The Müller family owns the big pump.")
    assert is_held("The café opens at nine and closes at ten.", "The café opens at nine.")


def test_figures_of_other_scripts_are_amounts() -> None:
    assert is_held("العدد ١٢ شخصا.", "العدد 12 شخصا.")
    assert not is_held("العدد ١٢ شخصا.", "العدد 13 شخصا.")
