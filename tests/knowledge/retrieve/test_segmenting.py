"""Words of every script: parted by spaces where the script does so, else by a dictionary or in pairs."""

import pytest

from app.knowledge.retrieve.segmenting import is_mostly_chinese, query_words, segmented, segmented_anew, words


def words_of(text: str) -> list[str]:
    """The words alone; each stands where it is said to."""
    found = list(words(text))
    assert all(0 <= start < end <= len(text) for _, start, end in found)
    return [word for word, _, _ in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Значок Ады — синий, из-за 5", ["значок", "ады", "синий", "из-за", "5"]),
        ("Το ΣΉΜΑ της Άντας", ["το", "σήμα", "τησ", "άντασ"]),
        ("L'été à Łódź", ["l", "été", "à", "łódź"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("İstanbul Ağrı", ["istanbul", "ağrı"]),
        ("Đường phố đẹp", ["đường", "phố", "đẹp"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("에이다의 배지", ["에이다의", "배지"]),
        ("كِتاب الطالب ١٢٫٥", ["كتاب", "الطالب", "12.5"]),
        ("שָׁלוֹם עולם", ["שלום", "עולם"]),
        ("हिन्दी में लिखा", ["हिन्दी", "में", "लिखा"]),
        ("می\u200cخواهم Donau\u00addampf", ["میخواهم", "donaudampf"]),
        ("GP-60, GP‑60, v3.10", ["gp-60", "gp-60", "v3.10"]),
        ("5 µm, 130 ºC", ["5", "μm", "130", "c"]),
        ("会議は火曜日", ["会議", "は", "火曜日"]),
        ("サーバ", ["サー", "ーバ"]),
        ("ประตู", ["ปร", "ระ", "ะตู"]),
        ("ក្រុម", ["ក្រុ", "រុម"]),
        ("❤️ 👩‍🚀 !", []),
        ("GPU显存", ["gpu", "显存"]),
    ],
)
def test_words_of_each_script(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_a_word_stands_where_it_is_written() -> None:
    text = "Ёлка, STRAßE und ٣٤"
    assert [text[start:end] for _, start, end in words(text)] == ["Ёлка", "STRAßE", "und", "٣٤"]


def test_korean_is_found_without_its_particles() -> None:
    assert set(query_words("배지")) & set(segmented("에이다의 배지는 파란색").split())


def test_compounds_of_every_script_are_found_by_their_parts() -> None:
    assert segmented("Нью-Йорк New-York").split() == ["нью-йорк", "нью", "йорк", "new-york", "new", "york"]


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("键值缓存占用 café 和 Zürich", True), ("Насос 水 泵 остановлен вчера", False), ("Das heißt 水", False)],
)
def test_foreign_words_weigh_as_words(text: str, chinese: bool) -> None:
    assert is_mostly_chinese(text) == chinese


@pytest.mark.parametrize("text", ["plain text, v3.10 “quoted” — 5 °C", "键值缓存 KV cache，ＧＰＵ１２"])
def test_what_older_versions_read_alike_is_not_read_again(text: str) -> None:
    assert segmented_anew("", text) is None
    assert segmented_anew("", f"{text} Größe") == ("", segmented(f"{text} Größe"))
