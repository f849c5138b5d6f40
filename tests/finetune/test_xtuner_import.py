"""A user's own XTuner configuration: its numbers, base, data and questions are read, and nothing of it is run."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.finetune.command import add_options, finetune
from app.finetune.data import BadData
from app.finetune.options import BadOption
from app.finetune.service import FinetuneService
from app.finetune.xtuner_import import BadConfig, read_config
from app.models.registry.registry import ModelRegistry
from tabs.shell.page import Page, Visitor
from tabs.tuning import training
from tabs.tuning.training_widgets import draw_form
from tests.training_fixtures import BASE


def shipped() -> str:
    """The configuration that the course copies and edits."""
    found = importlib.util.find_spec("xtuner")
    assert found and found.origin
    folder = Path(found.origin).parent / "configs/internlm/internlm_chat_7b"
    return (folder / "internlm_chat_7b_qlora_oasst1_e3.py").read_text(encoding="utf-8")


def edited() -> str:
    """As the course edits it: own base, own data, fewer rows a step."""
    text = shipped().replace('"internlm/internlm-chat-7b"', '"./internlm-chat-7b"', 1)
    text = text.replace('"timdettmers/openassistant-guanaco"', '"personal_assistant.json"', 1)
    return text.replace("max_length = 2048", "max_length = 512").replace("batch_size = 1 ", "batch_size = 2 ")


def test_the_course_s_configuration_is_understood() -> None:
    found = read_config(edited().encode("utf-8-sig"))
    assert found.options == {
        "method": "qlora",
        "learning_rate": 2e-4,
        "rank": 64,
        "alpha": 16,
        "dropout": 0.1,
        "batch": 2,
        "accumulation": 16,
        "max_length": 512,
        "epochs": 3,
        "save_every": 32,  # of 500 iterations
        "evaluate_every": 32,
    }
    assert (found.base, found.data, found.system) == ("./internlm-chat-7b", "personal_assistant.json", "")
    assert len(found.questions) == 2 and "上海" in found.questions[0]


def test_sums_and_joined_texts_are_read_and_what_is_not_is_named() -> None:
    told = b"""
root = "./data/"
pretrained_model_name_or_path = root + "base"
accumulative_counts = 2 * 8
max_length = 2048 // 4
lr = LR
batch_size = 2 / 0
max_iters = 10 ** 10 ** 10
"""
    found = read_config(told)
    assert found.options == {"method": "lora", "accumulation": 16, "max_length": 512} and found.base == "./data/base"
    assert found.unread == ("learning_rate", "batch", "steps")


@pytest.mark.parametrize(
    "assigned",
    [
        "data_path = f'{root}/rows.json'",
        "data_files = [root + '/rows.json']",
        "llm_name_or_path = 'x'\nalpaca_en_path = root + '/rows.json'",
        "data_path = 'x'\ntrain_dataset = dict(dataset=dict(path='json', data_files=dict(train='data/rows.json')))",
        "data_path = 'data/rows.json'\n"
        "train_dataset = dict(dataset=dict(type=load_dataset, path='json', data_files=dict(train=data_path)))",
    ],
)
def test_the_data_s_path_wherever_it_is_written(assigned: str) -> None:
    assert read_config(f"root = 'data'\nmodel = dict()\n{assigned}".encode()).data == "data/rows.json"


def test_nothing_of_it_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    nasty = f"""
import pathlib; pathlib.Path({str(mark)!r}).touch()
pretrained_model_name_or_path = "base"
lr = pathlib.Path({str(mark)!r}).touch()
max_length = __import__("os").getpid()
batch_size = (lambda: 4)()
evaluation_inputs = ["a", f"{{pathlib.Path({str(mark)!r}).touch()}}"]
"""
    found = read_config(nasty.encode())
    assert not mark.exists() and found.questions == ("a",)
    assert found.options == {"method": "lora", "accumulation": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"x = 1",
        b"model = " + b"1+" * 5000 + b"1",
        b"def (",
        b"\x00",
        b"(" * 100_000,
        b"\xff\xfe\xfd",
        b"a" * (2**20 + 1),
    ],
)
def test_what_is_no_configuration_is_a_sentence(content: bytes) -> None:
    with pytest.raises(Exception) as refusal:
        read_config(content)
    assert isinstance(refusal.value, BadConfig) or "encoding" in str(refusal.value)


def test_a_number_that_is_not_allowed_is_named() -> None:
    with pytest.raises(BadOption, match="Learning rate"):
        read_config(b'pretrained_model_name_or_path = "a"\nlr = 3.0')


def test_the_page_is_filled_in(registry: ModelRegistry, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path)
    with gr.Blocks() as blocks:
        form = draw_form(Page(blocks, "en", gr.State(), gr.BrowserState({})), service)
    file = tmp_path / "config.py"
    file.write_text(edited().replace("./internlm-chat-7b", f"/share/{BASE}") + "\nlr = rate\n", encoding="utf-8")
    view: dict[Any, Any] = training.import_config(service, form, Visitor("en", "a", "s"), str(file))
    assert view[form.base]["value"] == BASE and view[form.options["rank"]]["value"] == 64
    assert "only running the file would tell: Learning rate" in view[form.imported]
    assert "Epochs" in view[form.imported] and "personal_assistant.json: upload" in view[form.imported]
    assert view[form.questions].startswith("请给我介绍")


def test_the_command_takes_its_data_from_beside_it_and_flags_win(
    registry: ModelRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.py").write_text(edited() + "\nlr = rate\n", encoding="utf-8")
    (tmp_path / "personal_assistant.json").write_text('[{"conversation": [{"input": "a"}]}]', encoding="utf-8")
    service = FinetuneService(registry, tmp_path)
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = parser.parse_args(["mine", "--config", str(tmp_path / "config.py"), "--rank", "8"])
    with pytest.raises(BadData, match="output"):
        finetune(options, service, BASE)
    told = capsys.readouterr().out
    assert "data personal_assistant.json, method qlora, rank 64" in told and "上海" in told
    assert "learning_rate is not taken over" in told
    (tmp_path / "personal_assistant.json").write_text('[{"conversation": [{"input": "a", "output": "b"}]}]')
    options = parser.parse_args(["mine", "--config", str(tmp_path / "config.py"), "--rank", "0"])
    with pytest.raises(BadOption, match="Rank"):
        finetune(options, service, BASE)
