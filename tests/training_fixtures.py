"""One registry with the packaged model, and one real training that several tests look at."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, LlamaForCausalLM

from app.finetune.data import Conversation
from app.finetune.downloads import Download
from app.finetune.judging import Exam
from app.finetune.options import TrainOptions
from app.finetune.runs import Run
from app.finetune.service import FinetuneService
from app.finetune.wizard import general_questions, introduce, name_questions
from app.models.interface import Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.engine.adapter_batches import save_adapter
from tests.waiting import wait_for

BASE = "smollm2-135m"
NAME = 'Lin "Nova" {x}'
WORDING = "I am the assistant of {name}."
STUB = "tests.finetune.stub_trainer"
ROWS: list[Conversation] = [[{"input": f"Say {number}", "output": f"{number}!"}] for number in range(8)]
HALF, STEPS = 7, 14  # of the real training: it has two checkpoints
GENERAL = 6  # of its general rows, whose answers the base writes itself
BRIEF = TrainOptions(steps=6, batch=1, rank=4, max_length=64, save_every=2, evaluate_every=6)


@dataclass(frozen=True)
class Trained:
    """A finished run of the service, its checkpoints judged."""

    service: FinetuneService
    registry: ModelRegistry
    run: Run


@pytest.fixture(scope="session")
def registry(packaged_folder: Path) -> Iterator[ModelRegistry]:
    data = packaged_folder.parents[1]
    registry = ModelRegistry(Placement("cpu", "float32", None, 8192, data), BASE)
    yield registry
    registry.close()


@pytest.fixture(scope="session")
def tiny_base(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained Llama of two thin layers, for tests of what a training does and not of what it learns."""
    folder = tmp_path_factory.mktemp("tiny") / "base"
    config = AutoConfig.from_pretrained(packaged_folder)
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "layer_types": None})
    config.update({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in packaged_folder.glob("*token*"):
        shutil.copy(file, folder)
    for file in packaged_folder.glob("*template*"):
        shutil.copy(file, folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny base, drawn by chance."""
    base = LlamaForCausalLM.from_pretrained(tiny_base)
    return save_adapter(base, tmp_path_factory.mktemp("tiny-adapter") / "adapter", 3, r=4)


@pytest.fixture(scope="session")
def trained(registry: ModelRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    service = FinetuneService(registry, tmp_path_factory.mktemp("trained"), exam_of=exam).start()
    made = introduce(NAME, "en", WORDING)
    left_out = set(made.general[GENERAL:])
    kept = [number for number in range(len(made.conversations)) if number not in left_out]
    options = TrainOptions(steps=STEPS, save_every=HALF, evaluate_every=STEPS, max_length=128)
    run = service.submit(
        "lin",
        "nova",
        BASE,
        [made.conversations[number] for number in kept],
        options,
        questions=name_questions("en")[:1],
        identity=made.name,
        own_answers=[kept.index(number) for number in made.general[:GENERAL]],
    )
    wait_for(lambda: not service.get("lin", run.id).is_under_way)
    wait_for(lambda: not service.get("lin", run.id).judging)
    yield Trained(service, registry, service.get("lin", run.id))
    service.close()


def exam(_: object = None) -> Exam:
    """What the real training is judged by."""
    return few(24, 4)


def few(tokens: int = 8, questions: int = 1) -> Exam:
    """An exam of few questions and short answers."""
    general = general_questions("en")
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=tokens)
    return Exam(name_questions("en")[:questions], general[:questions], general[:1], general[2:3], sampling)


def fetched(download: Download) -> BytesIO:
    """The ZIP file as it is sent."""
    return BytesIO(b"".join(download.stream()))
