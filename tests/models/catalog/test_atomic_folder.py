"""A folder is there whole or not at all, whoever else writes it and however the writing ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.models.catalog.atomic_folder import DiskFull, require_space, whole_folder

WRITER = """
import sys
from pathlib import Path
from app.models.catalog.atomic_folder import whole_folder
final = Path(sys.argv[1])
with whole_folder(final) as folder:
    if folder != final:
        for number in range(200):
            (folder / f"{number}").write_text(sys.argv[2])
        print("wrote")
"""


def test_two_processes_write_once_and_both_find_it_whole(tmp_path: Path) -> None:
    final = tmp_path / "model"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, final, mark], stdout=subprocess.PIPE, text=True)
        for mark in ("one", "two")
    ]
    said = [writer.communicate(timeout=60)[0].strip() for writer in writers]
    assert sorted(said) == ["", "wrote"]
    assert [writer.returncode for writer in writers] == [0, 0]
    contents = {file.read_text() for file in final.iterdir()}
    assert len(contents) == 1 and len(list(final.iterdir())) == 200


def test_nothing_is_left_when_the_writing_fails(tmp_path: Path) -> None:
    final = tmp_path / "model"
    with pytest.raises(RuntimeError), whole_folder(final) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_a_killed_writer_left_is_swept_and_not_taken(tmp_path: Path) -> None:
    final = tmp_path / "model"
    kill_self = WRITER.replace('print("wrote")', "import os; os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", kill_self, final, "half"], check=False, timeout=60)
    assert not final.exists() and any(path.is_dir() for path in tmp_path.iterdir())
    with whole_folder(final) as folder:
        (folder / "file").write_text("whole")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["model"]
    assert (final / "file").read_text() == "whole"


def test_too_little_space_says_how_much_is_missing(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet" / "there", 1, "m")
    with pytest.raises(DiskFull) as refusal:
        require_space(tmp_path, 2**62, "m")
    assert str(2**42) in refusal.value.text("zh")
