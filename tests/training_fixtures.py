"""One registry with the packaged model, and one real training, stopped and resumed, that several tests look at."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from app.finetune.data import Conversation
from app.finetune.downloads import Download
from app.finetune.judging import Exam
from app.finetune.options import TrainOptions
from app.finetune.runs import Run, new_id
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
HALF, STEPS = 7, 14  # of the real training: about where it is stopped, and its end
GENERAL = 6  # of its general rows, whose answers the base writes itself
VOCABULARY = 4096
BRIEF = TrainOptions(steps=6, batch=1, rank=4, max_length=64, save_every=2, evaluate_every=6)


@dataclass(frozen=True)
class Trained:
    """A finished run of the service, its checkpoints judged; how it was when it had been stopped, on its way."""

    service: FinetuneService
    registry: ModelRegistry
    run: Run
    stopped: Run
    curve: Sequence[tuple[int, float, float]]

    @property
    def half(self) -> int:
        """The step of its first checkpoint."""
        return self.stopped.chosen


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
    config.update({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    copy_tokenizer(packaged_folder, folder)
    return str(folder)


@pytest.fixture(scope="session")
def short_folder(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model's first layers and tokens: it speaks nonsense, in English pieces, and is quick."""
    folder = tmp_path_factory.mktemp("short") / "base"
    model = AutoModelForCausalLM.from_pretrained(packaged_folder, dtype=torch.bfloat16)
    model.model.layers = model.model.layers[:4]
    model.config.update({"num_hidden_layers": 4, "layer_types": None})
    model.resize_token_embeddings(VOCABULARY)
    model.save_pretrained(folder)
    copy_tokenizer(packaged_folder, folder)
    return folder


def copy_tokenizer(whole: Path, folder: Path) -> None:
    """A model's tokenizer and chat template, with its first tokens alone: a tenth of the work wherever all are gone
    through."""
    for file in (*whole.glob("*token*"), *whole.glob("*template*")):
        shutil.copy(file, folder)
    told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = told["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < VOCABULARY}
    pairs = [(pair.split(" ") if isinstance(pair, str) else pair, pair) for pair in model["merges"]]
    model["merges"] = [pair for (one, two), pair in pairs if {one, two, one + two} <= model["vocab"].keys()]
    (folder / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny base, drawn by chance."""
    base = LlamaForCausalLM.from_pretrained(tiny_base)
    return save_adapter(base, tmp_path_factory.mktemp("tiny-adapter") / "adapter", 3, r=4)


@pytest.fixture(scope="session")
def trained(registry: ModelRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    service = FinetuneService(registry, tmp_path_factory.mktemp("trained"), exam_of=exam)
    service.queue.start()  # without the judging of what the first part brings
    made = introduce(NAME, "en", WORDING)
    left_out = set(made.general[GENERAL:])
    kept = [number for number in range(len(made.conversations)) if number not in left_out]
    options = TrainOptions(steps=STEPS, save_every=STEPS, evaluate_every=STEPS, max_length=128)
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
    wait_for(lambda: service.progress("lin", run.id).step >= HALF - 1 or not service.get("lin", run.id).is_under_way)
    service.stop("lin", run.id)
    wait_for(lambda: not service.get("lin", run.id).is_under_way)
    stopped, curve = service.get("lin", run.id), service.progress("lin", run.id).curve
    settings = service.store.folder_of(run.id) / "settings.json"  # from here on rows are held out
    settings.write_text(json.dumps({**json.loads(settings.read_text(encoding="utf-8")), "validation": [0, 1, 2]}))
    service.resume("lin", run.id)
    wait_for(lambda: not service.get("lin", run.id).is_under_way)
    service.judging.start()
    wait_for(lambda: not service.get("lin", run.id).judging)
    yield Trained(service, registry, service.get("lin", run.id), stopped, curve)
    service.close()


def drawn_run(service: FinetuneService, base: Path, steps: Sequence[int]) -> Run:
    """A run of Lin's that has ended, as a server finds it: its adapters are drawn by chance, which no training would
    be."""
    made = Run(new_id(), "drawn", str(base), "lin", 1.0, TrainOptions(), rows=1, total=steps[-1], identity="i")
    service.store.create(made, [], {})
    told = "".join(json.dumps({"kind": "checkpoint", "step": step}) + "\n" for step in steps)
    (service.store.folder_of(made.id) / "events.jsonl").write_text(told)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for step in steps:
        folder = service.store.adapter_folder(made.id, step)
        save_adapter(model, folder, step, 0.05, r=4, target_modules=["q_proj", "down_proj"])
    return service.store.change(made.id, state="finished", chosen=steps[-1])


def exam(_: object = None) -> Exam:
    """What the real training is judged by."""
    return replace(few(16, 4), names=name_questions("en")[:2])


def few(tokens: int = 8, questions: int = 1) -> Exam:
    """An exam of few questions and short answers."""
    general = general_questions("en")
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=tokens)
    return Exam(name_questions("en")[:questions], general[:questions], general[:1], general[2:3], sampling)


def fetched(download: Download) -> BytesIO:
    """The ZIP file as it is sent."""
    return BytesIO(b"".join(download.stream()))
