"""Presets that ship with the chat: named system prompts with sampling, in both languages (assets/presets.toml)."""

import tomllib
from typing import Any

from app.errors import Language
from app.paths import ASSETS

Preset = dict[str, Any]  # its name and its settings, by the names that the page's settings have


def shipped_presets(language: Language) -> list[Preset]:
    """As the browser keeps its own: {"name", "settings"}."""
    with (ASSETS / "presets.toml").open("rb") as file:
        listed = tomllib.load(file)["presets"]
    return [_spoken(preset, language) for preset in listed]


def _spoken(preset: dict[str, Any], language: Language) -> Preset:
    values = {key: value[language] if isinstance(value, dict) else value for key, value in preset.items()}
    return {"name": values.pop("name"), "settings": values}
