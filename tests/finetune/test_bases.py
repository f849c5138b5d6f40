"""Which models can be trained: those that see and GGUF files are neither offered nor taken."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from app.finetune.command import add_options, finetune
from app.finetune.errors import TrainsNoGguf, TrainsNoVision
from app.finetune.options import TrainOptions
from app.finetune.service import FinetuneService
from app.models.catalog import bundled, known_models
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.texts import sentence
from tabs.shell.page import Page
from tabs.tuning import training
from tests.conftest import Serve
from tests.models.backends.tiny_internvl import save_tiny_internvl

ROWS = [[{"input": "Hi", "output": "Hello!"}]]


@pytest.fixture
def seeing(tmp_path: Path, packaged_folder: Path) -> Path:
    return save_tiny_internvl(tmp_path / "internvl", packaged_folder)


@pytest.fixture
def service(tmp_path: Path, seeing: Path) -> Iterator[FinetuneService]:
    registry = ModelRegistry(Placement("cpu", "float32", None, 4096, tmp_path), str(seeing))
    yield FinetuneService(registry, tmp_path)
    registry.close()


def test_a_model_that_sees_is_refused_before_anything_is_kept(service: FinetuneService, seeing: Path) -> None:
    for base in (str(seeing), "internvl3-1b"):
        with pytest.raises(TrainsNoVision, match="sees pictures"):
            service.submit("li", "mine", base, ROWS, TrainOptions())
        with pytest.raises(TrainsNoVision):
            service.preview(base, ROWS, TrainOptions())
    assert service.runs("li") == []


def test_a_gguf_file_is_refused_and_not_offered(service: FinetuneService) -> None:
    exported = "gguf/smollm2-135m/nova-q8_0"
    service.registry.add_model(exported, bundled.gguf_file(known_models.find(known_models.PACKAGED)))
    bases = service.bases("li")
    assert "smollm2-135m" in bases and "qwen3-8b" in bases
    assert not [name for name in bases if "nova" in name or name.endswith("-gguf")]
    with pytest.raises(TrainsNoGguf, match="Choose the model that it was made from"):
        service.submit("li", "mine", exported, ROWS, TrainOptions())


def test_the_command_refuses_it_too(service: FinetuneService, seeing: Path) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    with pytest.raises(TrainsNoVision):
        finetune(parser.parse_args(["mine", "--learn-name", "Lin"]), service, str(seeing))


def test_the_page_does_not_offer_it_and_the_endpoint_says_why(
    service: FinetuneService, seeing: Path, serve: Serve
) -> None:
    with gr.Blocks() as blocks:
        page = Page(blocks, "en", gr.State(), gr.BrowserState({}))
        training.build(page, service)
    base = next(
        block for block in blocks.blocks.values() if getattr(block, "label", "") == sentence("en", "compare.base")
    )
    assert isinstance(base, gr.Dropdown) and base.value == "smollm2-135m"
    offered = [value for _, value in base.choices]
    assert "internlm3-8b" in offered and not {str(seeing), seeing.name, "internvl3-1b", "qwen3-vl-2b"} & set(offered)
    client = Client(serve(blocks), verbose=False)
    with pytest.raises(Exception, match="Choose a text model as the base"):
        client.predict("mine", str(seeing), [{"instruction": "Hi", "output": "Hello!"}], api_name="/finetune")
