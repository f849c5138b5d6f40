"""The style sheet: an unclosed block silently takes the look of everything after it."""

from app.paths import ASSETS

STYLES = ASSETS / "studio.css"


def test_every_section_begins_outside_all_blocks() -> None:
    depth = 0
    for line in STYLES.read_text(encoding="utf-8").splitlines():
        assert depth == 0 or not line.startswith("/*"), f"an open block before {line}"
        depth += line.count("{") - line.count("}")
    assert depth == 0
