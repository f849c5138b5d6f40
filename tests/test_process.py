"""Imports without garbage collection."""

import gc

import pytest

from app.process import no_garbage_collection


def test_garbage_is_collected_again_after_imports_and_what_was_there_is_left_alone() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError), no_garbage_collection():
        assert not gc.isenabled()
        kept = [[] for _ in range(100)]
        raise ImportError
    assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(kept)
