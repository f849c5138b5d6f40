"""Links with random keys: the same for the same thing, for a time, and only so many."""

from app.access.links import SECONDS, Links


def test_a_link_is_the_same_while_it_is_known_and_made_again_it_opens_again() -> None:
    links: Links[str] = Links("open?key={key}")
    address = links.make("a", now=0)
    key = address.removeprefix("open?key=")
    assert address.startswith("open?key=") and len(key) >= 32
    assert links.read(key) is None, f"{SECONDS} seconds are over"
    assert links.make("a") == address and links.read(key) == "a"
    assert links.make("b") != address and links.read("nonsense") is None


def test_the_oldest_links_are_forgotten_first() -> None:
    links: Links[str] = Links("{key}", most=2)
    keys = [links.make(thing) for thing in ("a", "b", "a", "c")]
    assert [links.read(key) for key in keys] == ["a", None, "a", "c"]
    assert links.make("b") != keys[1]
