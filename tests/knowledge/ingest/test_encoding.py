"""Text encodings: told by the bytes, or by the file's name; what is damaged is marked."""

import pytest

from app.knowledge.ingest.encoding import decode

TEXTS = {
    "gb18030": ["国标编码的文件讲苹果树", "你好", "量化减少显存。"],
    "big5": ["繁體中文的文件討論蘋果樹與顯示記憶體。", "記憶體"],
    "shift_jis": ["量子化するとメモリが減ります。", "名前,年齢\n山田,3"],
    "euc_jp": ["量子化するとメモリが減ります。東京都庁は新宿にあります。"],
    "iso2022_jp": ["量子化するとメモリが減ります。"],
    "cp949": ["양자화는 메모리를 줄입니다. 서울은 한국의 수도입니다."],
    "cp1251": ["Ключ от котельной выдаётся каждый вторник утром."],
    "koi8_r": ["Ключ от котельной выдаётся каждый вторник утром."],
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
    "utf-16-le": ["Plain text without a mark.", "国标编码的文件\n讲苹果树"],
    "utf-16-be": ["Plain text without a mark."],
    "utf-16": ["Text with a mark 国标"],
    "utf-8": ["Ключ für 鍵"],
}


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_encodings(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == (text, ("", ""))


def test_an_encoding_can_be_said_and_damage_is_told() -> None:
    assert decode("Да".encode("cp866"), "notes.cp866.txt")[0] == "Да"
    text, note = decode("国标编码的文件讲苹果树".encode() + b"\xff!")
    assert text == "国标编码的文件讲苹果树\ufffd!" and "1 places" in note[1] and "1 处" in note[0]
