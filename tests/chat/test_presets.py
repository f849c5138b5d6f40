"""Presets that ship."""

from app.chat.presets import shipped_presets
from app.chat.request import chat_request


def test_the_same_presets_ship_in_both_languages_and_can_be_asked_with() -> None:
    zh, en = shipped_presets("zh"), shipped_presets("en")
    assert len(zh) == len(en) > 2
    for here, there in zip(zh, en, strict=True):
        assert here["name"] != there["name"]
        assert here["settings"].keys() == there["settings"].keys()
        assert (
            chat_request("hi", **here["settings"]).system == here["settings"]["system"] != there["settings"]["system"]
        )
