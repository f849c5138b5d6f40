"""How many pages of one visitor may hold something."""

import pytest

from app.sessions import Sessions, TooManyPages


def test_a_visitor_s_pages_are_counted_and_given_back() -> None:
    sessions = Sessions(2)
    for session in ("1", "2", "1"):
        sessions.enter("ada", session)
    sessions.enter("lin", "3")
    with pytest.raises(TooManyPages, match="2 of your pages"):
        sessions.enter("ada", "4")
    sessions.leave("1")
    sessions.leave("never there")
    sessions.enter("ada", "4")


def test_without_a_limit_nothing_is_kept() -> None:
    sessions = Sessions()
    for number in range(1000):
        sessions.enter("ada", str(number))
