"""What a browser hands over is checked."""

import json

import pytest

from app.chat.conversations import Conversation, Turn, conversation_from, version_of
from app.files import file_name, first_words

TURNS = (Turn("user", "What is a fold?", pictures=("aGk=",)), Turn("assistant", "    A fold.", "3 tokens", whole=False))


def test_a_conversation_survives_the_browser() -> None:
    made = Conversation("a1", "mine", TURNS, {"temperature": 0.5})
    again = conversation_from(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert [turn.id for turn in again.turns] == [turn.id for turn in TURNS]


@pytest.mark.parametrize(
    "stored",
    [None, [], "x", {"turns": 3}, {"id": {}, "title": [], "turns": [1, {}, {"role": "user"}], "settings": "x"}],
)
def test_whatever_else_was_stored_is_an_empty_conversation(stored: object) -> None:
    assert conversation_from(stored) == Conversation()


def test_turns_that_are_none_are_left_out() -> None:
    user = {"role": "user", "content": "ok", "pictures": ["no!", "aGk="], "id": 3}
    turns = [{"role": "system", "content": "x"}, user]
    kept = conversation_from({"id": "a", "turns": turns}).turns
    assert kept == (Turn("user", "ok", pictures=("aGk=",)),)
    assert kept[0].id


def test_of_a_tree_the_path_through_the_leaf_is_shown_down_to_its_newest_turn() -> None:
    def turn(name: str, role: str, **more: str) -> dict[str, str]:
        return {"id": name, "role": role, "content": name} | more

    older = [turn("a", "user"), turn("b", "assistant"), turn("c", "user")]  # a list, each follows the one before
    newer = [turn("b2", "assistant", parent="a"), turn("c2", "user", parent="b"), turn("a2", "user", parent="")]

    def shown(leaf: object) -> dict[str, tuple[str, ...]]:
        return {turn.id: turn.siblings for turn in conversation_from({"turns": older + newer, "leaf": leaf}).turns}

    versions_of = {"a": ("a", "a2"), "b": ("b", "b2")}
    assert shown("c") == versions_of | {"c": ("c", "c2")}
    assert shown("b") == versions_of | {"c2": ("c", "c2")}
    assert shown("b2") == {"a": ("a", "a2"), "b2": ("b", "b2")}
    assert shown("gone") == shown(["odd"]) == shown(None) == {"a2": ("a", "a2")}
    looped = [turn("x", "user", parent="y"), turn("y", "assistant", parent="x"), turn("x", "user", parent="y")]
    assert [turn.id for turn in conversation_from({"turns": looped}).turns] == ["x", "y"]


def test_a_version_knows_all_versions() -> None:
    first = Turn("assistant", "a")
    second = version_of(first, "b")
    assert second.siblings == (first.id, second.id)
    assert version_of(second, "c").siblings[:2] == second.siblings


def test_titles_and_file_names() -> None:
    assert file_name('a/b:*?"<>|\nc.', "md", "chat") == "a b c.md"
    assert file_name("../..", "json", "chat") == "chat.json"
    assert first_words("x" * 100) == "x" * 39 + "…"
