"""The interface's texts: the same keys and fields in both languages, and every key that the code names."""

import ast
import string

import pytest

from app.paths import ROOT
from app.texts import has_chinese, load_texts, preferred_language, sentence

# Calls whose text arguments are keys: method name -> do its keyword arguments hold keys too.
KEY_CALLS = {"text": False, "sentence": False, "tab": False, "bind": True}


def fields(text: object) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(str(text)) if name is not None}


def keys_in_code() -> set[str]:
    found: set[str] = set()
    for path in [*(ROOT / "tabs").rglob("*.py"), *(ROOT / "app").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found |= keys_of(node)
    return found


def keys_of(call: ast.Call) -> set[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in KEY_CALLS:
        return set()
    values: list[ast.expr] = [*call.args]
    if KEY_CALLS[name]:
        values += [keyword.value for keyword in call.keywords]
    constants = [value.value for value in values if isinstance(value, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and "." in value and " " not in value}


def test_both_languages_have_the_same_keys() -> None:
    assert load_texts("zh").keys() == load_texts("en").keys()


def test_both_languages_fill_the_same_fields() -> None:
    zh, en = load_texts("zh"), load_texts("en")
    assert {key: fields(zh[key]) for key in zh} == {key: fields(en[key]) for key in en}


def test_lists_and_tables_have_the_same_length() -> None:
    zh, en = load_texts("zh"), load_texts("en")
    assert [key for key in zh if not isinstance(zh[key], str) and len(zh[key]) != len(en[key])] == []


def test_every_key_named_in_the_code_exists() -> None:
    named = keys_in_code()
    assert "app.error" in named
    assert named - load_texts("en").keys() == set()


def test_a_sentence_is_filled_and_an_unknown_key_is_refused() -> None:
    assert sentence("en", "app.title") == "Puyu Studio"
    with pytest.raises(KeyError):
        sentence("en", "app.nothing")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de-DE,en;q=0.5,zh;q=0.7", "zh"),
        ("en-GB,en;q=0.9", "en"),
        ("fr;q=1.0, en;q=0, zh;q=oops", "zh"),
        ("fr", "zh"),
        ("", "en"),
        ("*", "en"),
    ],
)
def test_the_browser_s_language(header: str, language: str) -> None:
    assert preferred_language(header, "zh") == language


@pytest.mark.parametrize(
    ("text", "is_there"),
    [("Who is 鲁迅?", True), ("㐀", True), ("Café — naïve?", False), ("こんにちは", False), ("", False)],
)
def test_chinese_is_told_by_its_characters(text: str, is_there: bool) -> None:
    assert has_chinese(text) is is_there
