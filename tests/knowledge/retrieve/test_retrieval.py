"""Search results: near duplicates are shown once, and what only looks alike is not."""

from pathlib import Path

import pytest

from app.knowledge.retrieve.near_duplicates import distinct
from app.knowledge.retrieve.refusal import weigh
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


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("Keep the freezer at -18 °C, whatever the season may be.", "-18", "18"),
        ("Насос в подвале зимой не работает, и вода стоит.", "не работает", "работает"),
        ("Le bateau de la famille Émond est peint chaque printemps.", "Émond", "Éluard"),
    ],
    ids=["a sign", "denied in Russian", "a name with an accent"],
)
def test_what_differs_in_a_sign_or_an_accent_is_no_duplicate(one: str, other: str, shown: str) -> None:
    assert list(distinct([("", one), ("", one)])) == [0]
    assert list(distinct([("", one), ("", one.replace(other, shown))])) == [0, 1]


def test_refusal_weighs_only_words_like_those_it_was_fitted_on() -> None:
    evidence = weigh("Где насос Puyu?", [0.9], ["Насос Puyu в подвале."], {"где": 0, "насос": 1, "puyu": 1}, 10)
    assert (evidence.covered, evidence.unknown) == (1.0, 0.0)
