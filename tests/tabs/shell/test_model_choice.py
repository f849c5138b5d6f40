"""The model list: its groups and what each entry tells; in which language examples are."""

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from app.models.interface import Fit
from tabs.shell.model_choice import labelled, spoken
from tests.fakes import FakeModel, FakeRegistry

LARGE, IN_FOUR_BITS = "internlm2.5-20b", "internlm2.5-20b:4bit"
SIZES = {LARGE: 40_000, "qwen3-vl-4b": 8_000, "smollm2-135m": 300, "internlm2.5-1.8b-gguf": 1118}


class Sized(FakeRegistry):
    def fit(self, name: str) -> Fit:
        if name == IN_FOUR_BITS:
            return Fit(12_000, 16_000, fits=True)
        alternative = IN_FOUR_BITS if name == LARGE else ""
        return replace(super().fit(name), needed_mib=SIZES.get(name, 260), alternative=alternative)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    made = Sized(*(FakeModel(name) for name in (*SIZES, "mine")), budget_mib=16_000)
    made.load("mine")
    return made


def test_loaded_ones_come_first_and_those_too_large_last_each_with_its_facts(registry: FakeRegistry) -> None:
    assert [label for label, _ in labelled(registry, "en")] == [
        "mine · loaded · 260 MiB",
        "smollm2-135m · on disk · 300 MiB · English",
        "qwen3-vl-4b · to download · 7.8 GiB · Chinese/English · sees pictures",
        "internlm2.5-1.8b-gguf · to download · 1.1 GiB · Chinese/English",
        "internlm2.5-20b:4bit · to download · 11.7 GiB · Chinese/English",
        "internlm2.5-20b · too large here · 39.1 GiB · fits in 4 bits · Chinese/English",
    ]
    assert labelled(registry, "zh")[-1][0] == "internlm2.5-20b · 本机放不下 · 39.1 GiB · 4 位量化放得下 · 中文/英文"


def test_examples_are_in_a_language_that_the_model_speaks() -> None:
    assert spoken("smollm2-135m", "zh") == spoken("smollm2-135m:full", "zh") == spoken("qwen3-4b", "en") == "en"
    assert spoken("qwen3-4b", "zh") == spoken("somebody/some-model", "zh") == "zh"
