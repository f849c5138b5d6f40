"""Adapters trained elsewhere, brought in as PEFT files, a ZIP or an XTuner checkpoint; refusals leave nothing."""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from app.errors import StudioError
from app.finetune.adapter_import import AdapterTooLarge, NoAdapter, NoLoraInCheckpoint, unpack_adapter
from app.finetune.errors import NoRepositories, NoRepository, TrainedElsewhere
from app.finetune.limits import FOR_STRANGERS
from app.finetune.runs import RunNameTaken
from app.finetune.service import FinetuneService
from app.models.catalog.hub import NoSuchFile
from app.models.engine.lora_files import AdapterError
from app.models.registry.registry import ModelRegistry
from tests.models.catalog.fake_hub import FakeHub, in_reach, running
from tests.models.engine.adapter_batches import save_adapter
from tests.training_fixtures import BASE, STUB
from tests.waiting import wait_for

CFG = """
model = dict(llm=dict(type='load'), lora=dict(type='peft.LoraConfig', r=4, lora_alpha=16, lora_dropout=0.05))
"""


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def state(tiny_adapter: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors by XTuner's names."""
    tensors = load_file(tiny_adapter / "adapter_model.safetensors")
    return {f"llm.{key.replace('.weight', '.default.weight')}": tensor for key, tensor in tensors.items()}


@pytest.fixture
def checkpoint(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """As XTuner writes it: the adapter's tensors, objects of other libraries, the configuration as text."""
    saved = {"state_dict": state, "meta": {"cfg": CFG, "iter": 8}, "message_hub": Evil(tmp_path / "was-run")}
    torch.save(saved, tmp_path / "iter_8.pth")
    return tmp_path / "iter_8.pth"


@pytest.fixture
def service(registry: ModelRegistry, tmp_path: Path) -> FinetuneService:
    return FinetuneService(registry, tmp_path / "data", trainer_module=STUB)


def test_a_checkpoint_is_converted_and_nothing_of_it_is_run(
    checkpoint: Path, tiny_adapter: Path, tiny_base: str, tmp_path: Path
) -> None:
    unpack_adapter([checkpoint], tmp_path / "made", tiny_base)
    assert not (tmp_path / "was-run").exists()
    made, wanted = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "made", tiny_adapter))
    assert made.keys() == wanted.keys() and all(made[key].equal(wanted[key]) for key in wanted)
    for number, content in enumerate(({"state_dict": {}}, [1], {"state_dict": Evil(tmp_path / "was-run"), "meta": {}})):
        torch.save(content, tmp_path / f"bad{number}.pth")
        with pytest.raises(NoLoraInCheckpoint):
            unpack_adapter([tmp_path / f"bad{number}.pth"], tmp_path / f"never{number}", tiny_base)
    assert not (tmp_path / "was-run").exists()


def test_a_folder_that_deepspeed_wrote_is_converted_and_one_without_its_weights_is_refused(
    state: dict[str, torch.Tensor], tiny_adapter: Path, tiny_base: str, tmp_path: Path
) -> None:
    states, meta = tmp_path / "mp_rank_00_model_states.pt", {"cfg": CFG}
    torch.save({"module": state, "meta": meta, "ds_config": {}}, states)
    with zipfile.ZipFile(tmp_path / "iter_8.zip", "w") as packed:
        packed.write(states, f"iter_8.pth/{states.name}")
        packed.writestr("iter_8.pth/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", b"")
    wanted = load_file(tiny_adapter / "adapter_model.safetensors")
    for number, file in enumerate((states, tmp_path / "iter_8.zip")):
        unpack_adapter([file], tmp_path / f"made{number}", tiny_base)
        made = load_file(tmp_path / f"made{number}" / "adapter_model.safetensors")
        assert all(made[key].equal(wanted[key]) for key in wanted) and len(list((tmp_path / "made0").iterdir())) == 2
    torch.save({"module": {key: torch.empty(0) for key in state}, "meta": meta}, states)
    with pytest.raises(NoLoraInCheckpoint):
        unpack_adapter([states], tmp_path / "never", tiny_base)


def test_a_zip_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(3):
            packed.writestr(f"{number}.pth", bytes(50_000))
    monkeypatch.setattr("app.finetune.adapter_import.MOST_BYTES", 100_000)
    with pytest.raises(AdapterTooLarge):
        unpack_adapter([tmp_path / "many.zip"], tmp_path / "made", BASE)
    assert list((tmp_path / "made").iterdir()) == []


def test_each_way_in_gives_a_run_that_answers(
    service: FinetuneService, checkpoint: Path, tiny_adapter: Path, tiny_base: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "adapter.zip", "w") as packed:
        for file in tiny_adapter.iterdir():
            packed.write(file, f"some/folder/{file.name}")
        packed.writestr("../../outside.txt", "no")
    ways = {"files": list(tiny_adapter.iterdir()), "zip": [tmp_path / "adapter.zip"], "pth": [checkpoint]}
    gaps = []
    for name, files in ways.items():
        run = service.bring_in("a", name, tiny_base, files)
        assert (run.state, run.chosen, run.judging) == ("finished", 1, True)
        with service.registry.for_visitor("a").lease(run.model) as model:
            gaps.append(model.inspect([{"role": "user", "content": "Hi"}], "Hello").gap)  # type: ignore[attr-defined]
        with pytest.raises(TrainedElsewhere):
            service.resume("a", run.id)
    assert gaps == pytest.approx([gaps[0]] * 3, rel=1e-4) and gaps[0] > 0
    assert not list(tmp_path.rglob("outside.txt"))
    with pytest.raises(RunNameTaken):
        service.bring_in("a", "zip", tiny_base, ways["zip"])
    service.judging.start()
    wait_for(lambda: not any(run.judging for run in service.runs("a")))
    assert [len(service.judgements("a", run.id)) for run in service.runs("a")] == [1, 1, 1]
    service.close()


def test_an_adapter_of_a_hub_repository_is_brought_in_or_refused(
    service: FinetuneService, tiny_adapter: Path, tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {file.name: file.read_bytes() for file in tiny_adapter.iterdir()}
    with running(FakeHub(files, "lin/assistant-lora")) as started:
        in_reach(started, tmp_path / "hub", monkeypatch)
        run = service.bring_in_repository("a", "hub", tiny_base, " lin/assistant-lora ")
        with service.registry.for_visitor("a").lease(run.model) as model:
            assert model.inspect([{"role": "user", "content": "Hi"}], "Hello").gap > 0  # type: ignore[attr-defined]
        service.delete("a", run.id)
        started.files.pop("adapter_model.safetensors")
        with pytest.raises(NoSuchFile, match=r"adapter_model\.safetensors"):
            service.bring_in_repository("a", "hub", tiny_base, "lin/assistant-lora")
    for name in ("", "lin", "lin/../x", "http://a.b/c"):
        with pytest.raises(NoRepository):
            service.bring_in_repository("a", "hub", tiny_base, name)
    public = FinetuneService(service.registry, tmp_path / "public", trainer_module=STUB, limits=FOR_STRANGERS)
    with pytest.raises(NoRepositories):
        public.bring_in_repository("a", "hub", tiny_base, "lin/assistant-lora")
    assert service.runs("a") == []


def test_what_does_not_fit_is_a_sentence_and_leaves_nothing(
    service: FinetuneService, tiny_base: str, tmp_path: Path
) -> None:
    wide = LlamaForCausalLM.from_pretrained(tiny_base)
    wide.model.layers[0].self_attn.q_proj = torch.nn.Linear(64, 64, bias=False)
    other = save_adapter(wide, tmp_path / "other", 3, r=4)
    with pytest.raises(AdapterError):
        service.bring_in("a", "other", tiny_base, list(other.iterdir()))
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    shutil.copy(other / "adapter_config.json", tmp_path)
    for files in ([tmp_path / "broken.zip"], [tmp_path / "adapter_config.json"], []):
        with pytest.raises(NoAdapter):
            service.bring_in("a", "none", tiny_base, files)
    with pytest.raises(StudioError):
        service.bring_in("a", "../x", BASE, [tmp_path / "broken.zip"])
    assert service.runs("a") == [] and not list(service.store.folder.iterdir())
    assert not [name for name in service.registry.names() if "+other" in name or "+none" in name]
