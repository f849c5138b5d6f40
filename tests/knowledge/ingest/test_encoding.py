"""Text encodings: told by the bytes, or by the file's name; what is damaged is marked."""

import pytest

from app.knowledge.ingest.documents import Unreadable
from app.knowledge.ingest.encoding import decode

TEXTS = {
    "gb18030": ["国标编码的文件讲苹果树", "你好", "量化减少显存。", "記憶體", "产品说明书"],
    "big5": ["繁體中文的文件討論蘋果樹與顯示記憶體。", "記憶體", "您好", "火車站在哪裡？"],
    "shift_jis": ["量子化するとメモリが減ります。", "名前,年齢\n山田,3", "量子化", "取扱説明書"],
    "euc_jp": ["量子化するとメモリが減ります。東京都庁は新宿にあります。", "量子化", "ありがとうございます"],
    "iso2022_jp": ["量子化するとメモリが減ります。"],
    "cp949": ["양자화는 메모리를 줄입니다. 서울은 한국의 수도입니다.", "서울", "감사합니다"],
    "cp1251": ["Ключ от котельной выдаётся каждый вторник утром."],
    "koi8_r": ["Ключ от котельной выдаётся каждый вторник утром.", "Привет, мир", "ПРАВИЛА ПОЛЬЗОВАНИЯ"],
    "cp1250": ["Zażółć gęślą jaźń, proszę przyjść we wtorek."],
    "cp1252": [
        "Die Schlüsselübergabe für das Kesselhaus",
        "Müller;Süd;3\nWeiß;Nord;4",
        "naïve “quotes” – dash",
        "Preis–Leistung, l’été",
    ],
    "mac_roman": [
        "Les employés ont droit à vingt jours de congé payé, été comme hiver.",
        "Die Schlüssel für das Gebäude hängen über der Tür.",
        "El año pasado la fábrica cerró tres días por vacaciones según el señor Núñez.",
    ],
    "cp1253": ["Το κλειδί παραδίδεται κάθε Τρίτη πρωί."],
    "cp1254": ["Anahtar her salı sabahı teslim edilir, İstanbul şubesi."],
    "utf-16-le": [
        "Plain text without a mark.",
        "国标编码的文件\n讲苹果树",
        "駅はどこですか。",
        "감사합니다",
        "Договор",
        "תודה רבה",
    ],
    "utf-16-be": [
        "Plain text without a mark.",
        "谢谢，电话号码",
        "Где находится вокзал?",
        "أين محطة القطار؟",
        "Cảm ơn bạn",
    ],
    "utf-16": ["Text with a mark 国标"],
    "cp850": ["Räksmörgås på fredag.", "Ärendet är försenat.", "Rødgrød med fløde på bordet.", "El niño comió mañana."],
    "iso8859-2": [
        "Zażółć gęślą jaźń.",
        "Spotkanie odbędzie się w środę o ósmej.",
        "Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "Klíče od kotelny jsou u vrátného; vraťte je do pátku.",
    ],
    "cp852": ["Dziękuję bardzo", "Schůzka je ve středu v osm hodin ráno.", "Köszönöm szépen, jó reggelt kívánok."],
    "cp866": ["Ключ от котельной выдаётся каждый вторник."],
    "iso8859-5": ["Где находится вокзал?", "ВНИМАНИЕ! Лифт не работает."],
    "cp737": ["Το κλειδί παραδίδεται κάθε Τρίτη."],
    "cp857": ["Anahtar her salı sabahı teslim edilir.", "Çiğdem'in ışığı söndü."],
    "cp862": ["המפתח נמסר בכל יום שלישי בבוקר."],
    "mac_cyrillic": ["Совещание состоится в среду в восемь часов утра."],
    "johab": ["회의는 수요일입니다."],
    "hz": ["会议在星期三上午八点举行。"],
    "utf-8": ["Ключ für 鍵"],
}


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_encodings(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == (text, ("", ""))


def test_a_long_text_is_guessed_by_its_beginning_even_within_a_character() -> None:
    text = "昨天晚上下雨所以我们待在家里下棋" * 5000
    assert decode(text.encode("gbk")) == (text, ("", ""))
    assert decode(f"a{text}".encode("gbk")) == (f"a{text}", ("", ""))


@pytest.mark.parametrize(
    ("encoding", "text", "other"),
    [("gb18030", "苹果,3\n梨,4", "euc_jp"), ("euc_jp", "電話番号", "gb18030"), ("cp1255", "תודה רבה", "cp1256")],
)
def test_a_guess_that_is_not_certain_is_told(encoding: str, text: str, other: str) -> None:
    read, (zh, en) = decode(text.encode(encoding))
    assert read == text
    assert f"read as {encoding}, it may be {other}" in en and f"notes.{other}.txt" in zh


@pytest.mark.parametrize("raw", [bytes([1, 2, 3, 4, 0xFE, 0xFF, 0x9C, 0x11]), b"\x00\x01", b"\x01\x02\xff"])
def test_binary_data_is_no_utf_16(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(raw * 20)


def test_an_encoding_can_be_said_and_damage_is_told() -> None:
    assert decode("Да".encode("cp866"), "notes.cp866.txt")[0] == "Да"
    text, note = decode("国标编码的文件讲苹果树".encode() + b"\xff!")
    assert text == "国标编码的文件讲苹果树\ufffd!" and "1 places" in note[1] and "1 处" in note[0]
