"""The documentation against the tree: links lead somewhere, and the list of files is the modules' own."""

import re
import runpy
from pathlib import Path

import pytest

from app.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_listed() -> None:
    listed = {(ROOT / "docs" / link).resolve() for link in LINK.findall((ROOT / "docs" / "index.md").read_text())}
    assert {page for page in PAGES[2:] if page.name != "index.md"} <= listed


def test_the_list_of_files_is_the_modules_own() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "write_files.py"))["page"]()
    assert (ROOT / "docs" / "files.md").read_text(encoding="utf-8") == written, "run python docs/write_files.py"
