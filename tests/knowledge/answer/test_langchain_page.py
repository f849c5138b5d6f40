"""The chain of docs/langchain.md, run as it stands there."""

import re
from pathlib import Path

import pytest

from app.paths import ROOT
from tests.fakes import FakeModel, FakeRegistry
from tests.knowledge.conftest import ANN, Start, run

PAGE = ROOT / "docs" / "langchain.md"


def test_the_chain_of_the_page_runs(start: Start, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    model = FakeModel("tiny", lambda _: ["To ", "three tenths."])
    service = start(registry=FakeRegistry(model))
    (notes / "en.md").write_text("# Quantisation\n\n4-bit quantisation lowers the memory to three tenths.\n")
    run(service.index_folder(ANN, "course", notes))
    exec(compile(code, str(PAGE), "exec"), {"registry": service.registry, "service": service, "owner": ANN})
    assert capsys.readouterr().out == "To three tenths."
    (messages, sampling, _) = model.prompts[0]
    assert "en.md: " in messages[0]["content"]
    assert "lowers the memory to three tenths" in messages[0]["content"]
    assert sampling.max_new_tokens == 60
