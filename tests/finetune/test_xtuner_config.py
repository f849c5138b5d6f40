"""The configuration is Python text: it must hold what was set, and nobody's code."""

import ast
from pathlib import Path

import pytest

from app.errors import StudioError
from app.finetune.options import BadOption, TrainOptions
from app.finetune.xtuner_config import literal, write_config


def config(options: TrainOptions, folder: str = "/base", name: str = "base", cuda: bool = False) -> str:
    return write_config(options, steps=40, base_name=name, base_folder=Path(folder), run_folder=Path("/run"), cuda=cuda)


def values(text: str) -> dict[str, object]:
    """Top-level names that are set to plain literals."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            assert isinstance(node.targets[0], ast.Name)
            found[node.targets[0].id] = node.value.value
    return found


def test_what_was_set_stands_in_the_text() -> None:
    text = config(TrainOptions(rank=8, batch=3, learning_rate=2e-4, accumulation=2, max_length=99))
    found = values(text)
    assert (found["batch_size"], found["learning_rate"], found["max_length"]) == (3, 2e-4, 99)
    assert (found["steps"], found["accumulation"], found["warmup"]) == (40, 2, 8)
    assert "r=8" in text and "quantise=None" in text and "AmpOptimWrapper" not in text


def test_qlora_loads_four_bits() -> None:
    text = config(TrainOptions(method="qlora"), cuda=True)
    ast.parse(text)
    for part in ("quantise='4bit'", "AmpOptimWrapper", "nccl", "use_activation_checkpointing=True"):
        assert part in text


@pytest.mark.parametrize(
    "nasty", ['a"; import os; os.abort() #', "a'''\nimport os\n", "{{$HOME:x}}", "{{ fileDirname }}", "\\", "名$steps"]
)
def test_names_and_folders_cannot_become_code(nasty: str) -> None:
    text = config(TrainOptions(), folder=f"/models/{nasty}", name=nasty)
    assert values(text)["base_name"] == nasty and values(text)["base_folder"] == f"/models/{nasty}"
    assert len(ast.parse(text).body) == len(ast.parse(config(TrainOptions())).body)
    assert "{{" not in text and ast.literal_eval(literal(nasty)) == nasty


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"steps": "40); import os"},
        {"rank": True},
        {"learning_rate": float("nan")},
        {"dropout": 1},
        {"method": "full"},
        {"unknown": 1},
    ],
)
def test_values_that_are_not_allowed_name_the_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(BadOption) as refusal:
        TrainOptions.read(wrong)
    assert next(iter(wrong)) in refusal.value.text("en")
    assert isinstance(refusal.value, StudioError)


def test_numbers_from_a_page_and_epochs() -> None:
    options = TrainOptions.read({"steps": 40.0, "batch": 2.0, "epochs": 3, "learning_rate": None})
    assert options.batch == 2 and options.total_steps(rows=28) == 42
    assert TrainOptions(steps=7).total_steps(rows=28) == 7
