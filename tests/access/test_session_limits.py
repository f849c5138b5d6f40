"""How many pages of one visitor may hold something."""

import pytest

from app.access.client_address import SHARE, AddressSpent, ClientAddresses
from app.access.lifetimes import SILENT_PAGE_S
from app.access.session_limits import SessionLimits, TooManyPages


def test_a_visitor_s_pages_are_counted_and_given_back() -> None:
    sessions = SessionLimits(2)
    for session in ("1", "2", "1"):
        sessions.enter("ada", session)
    sessions.enter("lin", "3")
    with pytest.raises(TooManyPages, match="2 of your pages"):
        sessions.enter("ada", "4")
    sessions.leave("1")
    sessions.leave("never there")
    sessions.enter("ada", "4")


def test_a_page_that_was_never_said_to_be_closed_counts_for_an_hour() -> None:
    now = [0.0]
    sessions = SessionLimits(1, clock=lambda: now[0])
    sessions.enter("ada", "1")
    now[0] = SILENT_PAGE_S - 1
    with pytest.raises(TooManyPages):
        sessions.enter("ada", "2")
    now[0] = SILENT_PAGE_S
    sessions.enter("ada", "2")


def test_an_address_holds_so_many_visitors_pages() -> None:
    addresses = ClientAddresses(watched=True)
    sessions = SessionLimits(1, addresses)
    for number in range(SHARE):
        addresses.note(f"key {number}", f"2606:4700::{number}")
        sessions.enter(f"key {number}", f"page {number}")
    addresses.note("one more key", "2606:4700::ffff")
    with pytest.raises(AddressSpent):
        sessions.enter("one more key", "one more page")
    sessions.leave("page 0")
    sessions.enter("one more key", "one more page")


def test_where_strangers_do_not_come_in_no_address_is_kept() -> None:
    addresses = ClientAddresses()
    addresses.note("ada", "8.8.8.8")
    assert addresses.of("ada") == ""


def test_without_a_limit_nothing_is_kept() -> None:
    sessions = SessionLimits()
    for number in range(1000):
        sessions.enter("ada", str(number))
