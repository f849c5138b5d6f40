"""Translations: sentences of the interface, one TOML file per language in assets/texts; the language of a text."""

import tomllib
from collections.abc import Mapping
from functools import cache

from app.errors import Language
from app.paths import ASSETS

LANGUAGE_COOKIE = "studio-language"  # set by assets/studio.js
LANGUAGES: tuple[Language, ...] = ("zh", "en")
TEXTS_FOLDER = ASSETS / "texts"

Text = str | list[str] | dict[str, str]


@cache
def load_texts(language: Language) -> dict[str, Text]:
    """Dotted key -> sentence. A list stays a list, and a table can also be had whole, as value -> label."""
    tree = tomllib.loads((TEXTS_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    flat: dict[str, Text] = {}
    _flatten(tree, "", flat)
    return flat


def _flatten(tree: dict[str, object], prefix: str, flat: dict[str, Text]) -> None:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            _flatten(value, f"{path}.", flat)
            if all(isinstance(leaf, str) for leaf in value.values()):
                flat[path] = value
        elif isinstance(value, list):
            flat[path] = [str(entry) for entry in value]
        else:
            flat[path] = str(value)


def sentence(language: Language, key: str, **values: object) -> str:
    """The sentence `key` in `language`, its fields filled with `values`."""
    text = load_texts(language)[key]
    if not isinstance(text, str):
        raise KeyError(f"{key} is no single sentence")
    return text.format(**values) if values else text


def has_chinese(text: str) -> bool:
    """Whether Chinese characters stand in a text."""
    return any("\u3400" <= character <= "\u9fff" for character in text)


def chosen_language(
    cookies: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    forced: Language | None = None,
    otherwise: Language = "zh",
) -> Language:
    """What a browser's page was last shown in; else the operator's `forced`, or what the browser prefers.

    `otherwise` is for who prefers none of ours: English where it may be a program.
    """
    noted = next((known for known in LANGUAGES if known == cookies.get(LANGUAGE_COOKIE)), None)
    return noted or forced or preferred_language(headers.get("accept-language", ""), otherwise)


def preferred_language(accept_language: str, otherwise: Language) -> Language:
    """The first language of an Accept-Language header that we speak; English for programs, which send none or `*`."""
    if accept_language.strip() in ("", "*"):
        return "en"
    weighted: list[tuple[float, Language]] = []
    for part in accept_language.split(","):
        tag, _, parameters = part.strip().partition(";")
        language = tag.split("-")[0].lower()
        weight = _weight(parameters)
        for ours in LANGUAGES:
            if language == ours and weight > 0:
                weighted.append((weight, ours))
    return max(weighted, key=lambda entry: entry[0])[1] if weighted else otherwise


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
