"""What a Space and a container are built from."""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

from app.paths import ROOT
from app.process import missing_packages


def test_the_dockerfile_passes_its_linter() -> None:
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert linter is not None
    checked = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_container_gets_every_module_that_the_server_needs() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {part for line in lines if line.startswith("COPY ") for part in line.split()[1:-1]}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"assets"}
    assert packages - {"tests", "bench"} <= copied
    ignored = (ROOT / ".dockerignore").read_text()
    assert all((ROOT / part).exists() for part in copied)
    assert {f"!{part}" for part in copied if "requirements" not in part} <= set(ignored.splitlines())


def test_the_readme_s_front_matter_makes_it_a_space() -> None:
    front = yaml.safe_load((ROOT / "README.md").read_text().split("---")[1])
    assert (front["sdk"], front["sdk_version"]) == ("gradio", version("gradio"))
    assert (ROOT / front["app_file"]).is_file()
    assert front["python_version"] in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert len(front["short_description"]) <= 60


def test_what_a_space_leaves_out_is_noticed(tmp_path: Path) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text(f"gradio=={version('gradio')}\n\nno-such-package==1.0  # why\ngradio==0.1\n")
    assert missing_packages(wanted) == ["no-such-package==1.0", "gradio==0.1"]
    assert missing_packages(ROOT / "requirements-nodeps.txt") == []
