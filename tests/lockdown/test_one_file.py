"""A parser that a file has taken over reads that file and answers, and can do nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.paths import ROOT
from tests.lockdown.hostile_parsers import ALLOWED, ATTACKS


def test_it_reads_its_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "document").write_text("its text")
    (tmp_path / "secret").write_text("a secret")
    command = [sys.executable, "-m", "tests.lockdown.hostile_parsers", tmp_path / "document", tmp_path / "secret"]
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120).stdout)
    if told.pop("lock") == "none":
        pytest.skip("this system has no seccomp")
    assert told.pop(ALLOWED[0].__name__) == "its text"
    assert told.pop(ALLOWED[1].__name__) in ("colorsys", "")  # nothing can be opened where there is no Landlock
    refused = dict.fromkeys(("executes", "traces_the_parent", "finds_other_descriptors"), "refused")
    assert told == {attack.__name__: "" for attack in ATTACKS} | refused
    assert (tmp_path / "document").read_text() == "its text" and not (tmp_path / "new").exists()
