"""Jupyter notebooks to Markdown: cells and what they printed."""

import json

import pytest

from tests.knowledge.ingest.conftest import Read


@pytest.mark.parametrize("version", [3, 4])
def test_notebooks_with_what_they_printed(read: Read, version: int) -> None:
    if version == 4:
        outputs = [
            {"output_type": "stream", "text": ["high water at 3.71\n"]},
            {"output_type": "execute_result", "data": {"text/plain": "'spring tide'", "image/png": "AAAA"}},
            {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": []},
        ]
        cells = [{"cell_type": "code", "source": "print(height)", "outputs": outputs}]
        book: dict[str, object] = {"nbformat": 4, "cells": cells}
    else:
        outputs = [
            {"output_type": "stream", "text": "high water at 3.71\n"},
            {"output_type": "pyout", "text": ["'spring tide'"]},
            {"output_type": "pyerr", "ename": "KeyError", "evalue": "'x'"},
        ]
        cells = [{"cell_type": "code", "input": ["print(height)"], "outputs": outputs}]
        cells.insert(0, {"cell_type": "heading", "level": 2, "source": "Tides"})  # type: ignore[dict-item]
        book = {"nbformat": 3, "worksheets": [{"cells": cells}]}
    content = read("a.ipynb", json.dumps(book).encode()).content
    for part in ("print(height)", "high water at 3.71", "'spring tide'", "KeyError: 'x'"):
        assert part in content
    assert "AAAA" not in content and ("## Tides" in content) == (version == 3)


@pytest.mark.parametrize("metadata", [None, {"kernelspec": None}])
def test_a_notebook_with_empty_parts_is_read(read: Read, metadata: object) -> None:
    cells = [{"cell_type": "code", "source": "x = 1", "outputs": [None, {"output_type": "stream", "text": "3.71"}]}]
    book = json.dumps({"nbformat": 4, "metadata": metadata, "cells": cells})
    content = read("a.ipynb", book.encode()).content
    assert "x = 1" in content and "3.71" in content
