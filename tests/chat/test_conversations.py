"""A visitor's conversations."""

import json

import pytest

from app.chat.conversations import (
    MAX_CONVERSATIONS,
    Conversation,
    History,
    Turn,
    as_json,
    as_markdown,
    file_name,
    shelf_from,
    title_of,
)

TURNS = (Turn("user", "Why is the sky blue?"), Turn("assistant", "```\n  air\n```", "3 tokens"))


def shelf_with(*titles: str) -> History:
    shelf = History().started()
    for title in titles:
        shelf = shelf.started()
        shelf = shelf.saved(shelf.open.id, [Turn("user", title)])
    return shelf


def test_what_is_stored_comes_back() -> None:
    shelf = History().started()
    shelf = shelf.saved(shelf.open.id, TURNS)
    again = shelf_from(json.loads(json.dumps(shelf.to_json())))
    assert again == shelf
    assert again.open.turns == TURNS
    assert again.open.title == "Why is the sky blue?"


def test_the_newest_is_on_top_and_an_empty_one_is_used_again() -> None:
    shelf = shelf_with("one", "two")
    assert [talk.title for talk in shelf.conversations] == ["two", "one"]
    assert [talk.title for talk in shelf.started().started().conversations] == ["", "two", "one"]


def test_opening_renaming_and_deleting() -> None:
    shelf = shelf_with("one", "two")
    one = shelf.conversations[1].id
    opened = shelf.opened(one)
    assert opened.open.title == "one"
    assert opened.renamed("  first   talk ").open.title == "first talk"
    assert opened.renamed("   ").open.title == "one"
    assert [talk.title for talk in opened.without_open().conversations] == ["two"]
    assert opened.opened("nothing").open.id == one


def test_a_name_given_by_the_visitor_stays() -> None:
    shelf = shelf_with("one").renamed("mine")
    assert shelf.saved(shelf.open.id, TURNS).open.title == "mine"


def test_deleting_the_last_leaves_an_empty_one() -> None:
    shelf = shelf_with("one").without_open()
    assert [talk.turns for talk in shelf.conversations] == [()]


def test_an_answer_to_a_deleted_conversation_does_not_bring_it_back() -> None:
    shelf = shelf_with("one", "two")
    gone = shelf.open.id
    assert [talk.title for talk in shelf.without_open().saved(gone, TURNS).conversations] == ["one"]


def test_the_oldest_go_when_the_browser_s_room_ends() -> None:
    shelf = shelf_with("old", "new")
    new = shelf.open.id
    shelf = shelf.saved(new, [Turn("user", "x" * 3_000_000)])
    assert [talk.id for talk in shelf.conversations] == [new]
    many = shelf_with(*(str(number) for number in range(MAX_CONVERSATIONS + 5)))
    assert len(many.conversations) == MAX_CONVERSATIONS


@pytest.mark.parametrize(
    "stored",
    [None, [], "x", {"conversations": 3}, {"conversations": [None, {"id": 4}, {"id": "a", "turns": "x"}]}],
)
def test_odd_storage_does_no_harm(stored: object) -> None:
    shelf = shelf_from(stored)
    assert shelf.open.turns == ()


def test_odd_turns_are_left_out() -> None:
    turns = [None, {"role": "root", "content": "x"}, {"role": "user", "content": 1}, {"role": "user", "content": "ok"}]
    shelf = shelf_from({"conversations": [{"id": "a", "turns": turns}]})
    assert shelf.open.turns == (Turn("user", "ok"),)


def test_exports() -> None:
    talk = Conversation("a", "Sky", TURNS)
    assert as_markdown(talk, "en") == "# Sky\n\n**Me**\n\nWhy is the sky blue?\n\n**Assistant**\n\n```\n  air\n```\n"
    assert "**助手**" in as_markdown(talk, "zh")
    assert json.loads(as_json(talk))["messages"][1] == {"role": "assistant", "content": "```\n  air\n```"}


def test_names_fit_every_system() -> None:
    assert file_name(Conversation("a", 'a/b:*?"<>|\nc.'), "md") == "a b c.md"
    assert file_name(Conversation("a", "../.."), "json") == "chat.json"
    assert title_of("x" * 100) == "x" * 39 + "…"
