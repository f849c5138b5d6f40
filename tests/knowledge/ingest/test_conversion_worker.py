"""Processes that parse files: a file that hangs, and how visitors share them."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from app.knowledge.ingest.conversion_worker import Converter, ServerEnds
from app.knowledge.ingest.documents import Unreadable
from tests.knowledge.ingest.made_files import office
from tests.waiting import wait_for


def test_a_parser_that_hangs_is_ended_and_the_next_file_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    hasty = Converter(seconds=0.001)
    with pytest.raises(Unreadable, match="seconds"):
        hasty(tmp_path / "file", "a.docx")
    hasty.seconds = 60
    assert "量化" in hasty(tmp_path / "file", "a.docx").content
    hasty.close()


def test_one_visitor_s_slow_file_holds_up_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    os.mkfifo(tmp_path / "slow")
    with closing(Converter()) as converter, ThreadPoolExecutor() as pool:
        slow = pool.submit(converter, tmp_path / "slow", "a.docx", "ada")
        with (tmp_path / "slow").open("wb") as writing:  # opens once it is being read
            behind = pool.submit(converter, tmp_path / "file", "a.docx", "ada")
            wait_for(lambda: converter.is_waiting("ada"))
            assert "量化" in converter(tmp_path / "file", "a.docx", "lin").content
            assert converter.is_waiting("ada") and not slow.done()
            writing.write(office("docx"))
        assert "量化" in slow.result(60).content and "量化" in behind.result(60).content


def test_a_file_that_hangs_is_given_up_sooner_while_others_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    with (
        closing(Converter(contended_seconds=0.1)) as converter,
        ThreadPoolExecutor() as pool,
        ExitStack() as held,
    ):
        hanging = []
        for name in ("ada", "lin"):
            os.mkfifo(tmp_path / name)
            hanging.append(pool.submit(converter, tmp_path / name, "a.docx", name))
            held.enter_context((tmp_path / name).open("wb"))
        assert "量化" in converter(tmp_path / "file", "a.docx", "eve").content
        held.close()
        told = [str(one.exception(60)) for one in hanging]
    assert any("over 0 seconds" in one for one in told), told


def test_a_file_that_hangs_keeps_no_server_from_ending(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow")
    converter = Converter()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(converter, tmp_path / "slow", "a.docx", "ada")
        with (tmp_path / "slow").open("wb"):
            behind = pool.submit(converter, tmp_path / "slow", "a.docx", "ada")
            wait_for(lambda: converter.is_waiting("ada"))
            converter.close()
            assert [type(one.exception(60)) for one in (slow, behind)] == [ServerEnds, ServerEnds]
