"""Named data sets: kept for their owner, used again after a restart, replaced, removed, limited for strangers."""

from pathlib import Path

import pytest

from app.access.identity import guest_of, server
from app.finetune.data import Conversation
from app.finetune.datasets import BadSetName, DataSets, SetsFull, TooManySets, UnknownSet
from app.finetune.limits import RunLimits

ROWS: list[Conversation] = [[{"input": "你是谁？", "output": "小林的助手\u2028。"}]] * 2
LIN, EVE = guest_of("l" * 32), guest_of("e" * 32)


def test_a_set_is_its_owners_and_outlives_the_server(tmp_path: Path) -> None:
    sets = DataSets(tmp_path, RunLimits())
    sets.keep(LIN, "  my\n rows ", ROWS)
    sets.keep(EVE, "my rows", ROWS[:1])
    sets = DataSets(tmp_path, RunLimits())
    assert [(known.name, known.rows) for known in sets.of(LIN)] == [("my rows", 2)]
    assert sets.read(LIN, "my rows") == ROWS and len(sets.read(EVE, "my rows")) == 1
    sets.keep(LIN, "my rows", ROWS[:1])  # in place of the first
    assert [known.rows for known in sets.of(LIN)] == [1]
    sets.forget(LIN, "my rows")
    for act in (sets.read, sets.forget):
        with pytest.raises(UnknownSet):
            act(LIN, "my rows")
    assert len(sets.of(EVE)) == 1 and len(list(tmp_path.iterdir())) == 1
    for name in (" ", "x" * 61):
        with pytest.raises(BadSetName):
            sets.keep(LIN, name, ROWS)


def test_strangers_keep_few_and_the_server_as_many_as_it_likes(tmp_path: Path) -> None:
    sets = DataSets(tmp_path, RunLimits(sets=1, sets_mib=1))
    sets.keep(LIN, "one", ROWS)
    with pytest.raises(TooManySets):
        sets.keep(LIN, "two", ROWS)
    sets.keep(LIN, "one", [[{"input": "x" * 2**20, "output": "y"}]])
    with pytest.raises(SetsFull):
        sets.keep(EVE, "one", ROWS)
    for name in ("one", "two"):
        sets.keep(server("terminal"), name, ROWS)


def test_what_was_not_used_for_long_goes_with_the_next_one(tmp_path: Path) -> None:
    sets = DataSets(tmp_path, RunLimits(days=1e-9))
    sets.keep(LIN, "old", ROWS)
    sets.keep(LIN, "new", ROWS)
    assert [known.name for known in sets.of(LIN)] == ["new"]
