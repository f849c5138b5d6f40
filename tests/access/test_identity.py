"""Who a request is from: nothing that a client can choose makes it the server's, or somebody else's."""

import pytest

from app.access.identity import (
    ApiKey,
    BadToken,
    Guest,
    Identifier,
    Login,
    Server,
    belongs,
    guest_of,
    server,
    stored_identity,
)

SECRET, OTHER = "a" * 32, "b" * 32


def test_a_secret_is_always_the_same_guest_and_cannot_be_read_from_it() -> None:
    identifier = Identifier()
    by_header = identifier.identify(None, {"x-studio-visitor": SECRET, "cookie": f"studio-visitor={OTHER}"})
    by_cookie = identifier.identify(None, {"cookie": f"x=1; studio-visitor={SECRET}"}, session="s")
    by_page = identifier.identify(None, {"cookie": f"studio-visitor={OTHER}"}, page_secret=SECRET)
    assert by_header == by_cookie == by_page == guest_of(SECRET) != guest_of(OTHER)
    assert isinstance(by_header, Guest) and SECRET not in by_header


def test_who_brings_no_secret_is_somebody_for_one_session_from_one_address() -> None:
    identifier = Identifier(most=2)

    def passing(session: str, host: str = "8.8.8.8") -> str:
        return identifier.identify(None, {}, session=session, host=host)

    first = passing("server:terminal")
    assert isinstance(first, Guest) and "terminal" not in first
    assert passing("server:terminal") == first
    assert len({first, passing("server:terminal", "9.9.9.9"), passing("s"), passing(""), passing("")}) == 5
    assert passing("server:terminal") != first, "the oldest of too many sessions is forgotten"


def test_a_login_is_a_login_whatever_else_is_sent() -> None:
    assert Identifier().identify("ada", {"x-studio-visitor": SECRET}, page_secret=OTHER) == Login("ada")


@pytest.mark.parametrize("token", ["", "server:terminal", "short", "a" * 201, "a" * 31 + " ", "a" * 31 + ";"])
def test_a_token_that_could_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        Identifier().identify(None, {"x-studio-visitor": token})
    assert Identifier().identify(None, {"cookie": f"studio-visitor={token}"}) != guest_of(token)


def test_trust_hangs_on_the_class() -> None:
    judging = server("judging")
    assert belongs("ada", judging) and belongs(judging, "lin") and belongs("", "lin") and belongs("ada", "ada")
    for chosen in ("server:judging", Login("server:judging"), Guest("server:judging"), ApiKey("server:judging")):
        assert not belongs("ada", chosen)


@pytest.mark.parametrize("identity", [server("terminal"), Login("hf:ada"), guest_of(SECRET)])
def test_what_is_stored_comes_back_as_it_was(identity: Server | Login | Guest) -> None:
    again = stored_identity(str(identity))
    assert again == identity and type(again) is type(identity)


def test_what_an_earlier_version_kept_for_a_browser_is_still_that_browser_s() -> None:
    assert stored_identity(SECRET) == guest_of(SECRET)
