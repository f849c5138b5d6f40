"""What the agent reads of documents: the passages that its visitor may read, each with where it stands."""

from pathlib import Path

import pytest

from app.knowledge.search_all import ALL, search_all
from app.knowledge.store.collections import NoSuchCollection
from tests.knowledge.conftest import ANN, Start, run


def test_passages_come_with_file_and_headings_to_whoever_may_read_them(start: Start, tmp_path: Path) -> None:
    rows = [f"walk {number},{10 + number},2" for number in range(60)]
    table, notes = tmp_path / "tours.csv", tmp_path / "notes.md"
    table.write_text("\n".join(["tour,price in euros,hours", *rows, "harbour,37,3"]))
    notes.write_text("# Harbour\n\n## Tickets\n\nThe office sells them from nine.\n")
    service = start()
    run(service.index_uploads(ANN, "travel", [(table, table.name), (notes, notes.name)]))
    search = search_all(service)
    found = search("ann", "travel", "price of the harbour tour").split("\n\n[")
    (prices,) = [each for each in found if "| harbour | 37 | 3 |" in each]
    assert prices.strip("[").startswith("tours.csv > tour | price in euros | hours]")
    assert "notes.md > Harbour > Tickets]" in search("ann", ALL, "tickets office")
    assert search("bob", ALL, "harbour") == ""
    with pytest.raises(NoSuchCollection):
        search("bob", "travel", "harbour")
