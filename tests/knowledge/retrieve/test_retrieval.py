"""Search results: near duplicates are shown once, and what only looks alike is not."""

from pathlib import Path

import pytest

from app.knowledge.retrieve.segmenting import words
from tests.knowledge.conftest import ANN, Start, run

TEXT = (
    "# Boats\n\nThe boat is painted every spring, and its hull is checked for cracks before it goes into the water.\n"
)


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (TEXT, 1),
        (TEXT.replace("every spring", "each spring").replace(", and", " -- and"), 1),
        (TEXT.replace("painted", "not painted"), 2),
        (TEXT.replace("every spring", "every 2 springs"), 2),
        (TEXT.replace("The boat", "The Birch"), 2),
        (TEXT.replace("# Boats", "# Rafts"), 2),
    ],
    ids=["the same", "other words", "denied", "an amount", "a name", "a heading"],
)
def test_near_duplicates_are_shown_once(start: Start, tmp_path: Path, other: str, shown: int) -> None:
    folder = tmp_path / "boats"
    folder.mkdir()
    (folder / "a.md").write_text(TEXT)
    (folder / "b.md").write_text(other)
    (folder / "c.md").write_text("# Oars\n\nOars are kept dry.\n")
    service = start()
    run(service.index_folder(ANN, "course", folder))
    hits = service.search(ANN, "course", "When is the boat painted and its hull checked for cracks?", 5)
    assert sum("hull" in hit.passage.content for hit in hits) == shown
    assert len(hits) == shown + 1, "the place of a duplicate goes to the next passage"


def test_lowered_and_full_width_figures_are_found_as_they_are_typed() -> None:
    assert [(word, start) for word, start, _ in words("CO₂ m³ ＧＰＵ１２")] == [("co2", 0), ("m3", 4), ("gpu12", 7)]
