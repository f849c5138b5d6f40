"""Bring in LoRA adapters trained elsewhere: PEFT files, a ZIP of them, or an XTuner checkpoint (.pth).

A checkpoint is a pickle: only its tensors and plain values are read, whatever else it names becomes an inert object.
"""

import io
import json
import pickle
import shutil
import time
import types
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file

from app.errors import BadInput
from app.finetune import events
from app.finetune.errors import NoRepository
from app.finetune.estimate import MIB
from app.finetune.queue import TrainingQueue
from app.finetune.runs import Run
from app.finetune.xtuner_import import read_config
from app.models.catalog import hub
from app.models.catalog.known_models import REPOSITORY
from app.models.engine.lora_files import CONFIG, WEIGHTS

MOST_BYTES = 8 * 2**30
STEP = 1  # of the one checkpoint
_FILES = (CONFIG, WEIGHTS)
_DEEPSPEED = "mp_rank_00_model_states.pt"  # of a folder iter_*.pth, as ZeRO 1 and 2 write it
_PREFIX = "llm."  # XTuner's name for the language model
_PLAIN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}


class NoAdapter(BadInput):
    zh = "这里没有适配器：请上传 {config} 与 {weights}、装有它们的 ZIP，或 XTuner 的检查点（.pth 或 {deepspeed}）。"
    en = (
        "There is no adapter in it: upload {config} and {weights}, a ZIP of both, or an XTuner checkpoint"
        " (.pth or {deepspeed})."
    )

    def __init__(self) -> None:
        super().__init__(config=CONFIG, weights=WEIGHTS, deepspeed=_DEEPSPEED)


class AdapterTooLarge(BadInput):
    zh = "ZIP 解开后超过 {gib} GiB：请只装入一个适配器或一个检查点。"
    en = "Unpacked, the ZIP is more than {gib} GiB: put only one adapter, or one checkpoint, into it."

    def __init__(self) -> None:
        super().__init__(gib=MOST_BYTES >> 30)


class NoLoraInCheckpoint(BadInput):
    zh = "这个检查点里没有 LoRA 权重，或没有写明 lora_alpha 的配置。请用 XTuner 的 LoRA 训练检查点。"
    en = "This checkpoint holds no LoRA weights, or no configuration that tells lora_alpha. Upload XTuner's own."


def unpack_adapter(files: Sequence[Path], target: Path, base: str) -> None:
    """Write a PEFT folder for `base` to `target` from what was uploaded.

    Raises NoAdapter, AdapterTooLarge, NoLoraInCheckpoint.
    """
    target.mkdir(parents=True)
    for file in files:
        if file.suffix == ".zip":
            _unzip(file, target)
        elif file.name in _FILES:
            shutil.copy(file, target / file.name)
    unpacked = [file for file in target.iterdir() if _is_checkpoint(file.name)]
    checkpoints = [*unpacked, *(file for file in files if _is_checkpoint(file.name))]
    if len(checkpoints) == 1 and not (target / CONFIG).exists():
        convert_checkpoint(checkpoints[0], target)
    for file in unpacked:
        file.unlink()
    if not all((target / name).is_file() for name in _FILES):
        raise NoAdapter
    try:
        settings = json.loads((target / CONFIG).read_text(encoding="utf-8"))
        # where it was trained is nobody's business here
        (target / CONFIG).write_text(json.dumps({**settings, "base_model_name_or_path": base}), encoding="utf-8")
    except (ValueError, TypeError) as error:
        raise NoAdapter from error


def bring_in(queue: TrainingQueue, run: Run, files: Sequence[Path]) -> Run:
    """Make an adapter trained elsewhere the only checkpoint of a new run, tried on its base at once.

    Raises what `unpack_adapter` does, RunNameTaken, AdapterError where it does not belong to the base, DoesNotFit.
    """
    store = queue.store
    # no trainer is to take it up
    store.create(replace(run, state="stopped"), [], {})
    try:
        unpack_adapter(files, store.adapter_folder(run.id, STEP), run.base)
        for kind in ("started", "checkpoint", "finished"):
            events.tell(store.folder_of(run.id), kind, step=0 if kind == "started" else STEP)
        queue.publish(replace(run, chosen=STEP))
        with queue.registry.for_visitor(run.owner).lease(run.model):
            pass
    except BaseException:
        queue.withdraw(run)
        store.delete(run.id)
        raise
    return store.change(run.id, state="finished", chosen=STEP, ended=time.time(), judging=True)


def fetch_repository(repository: str, check_room: Callable[[int], None]) -> list[Path]:
    """PEFT's two files of a repository on the hub. Raises NoRepository, DownloadFailed, what `check_room` raises."""
    wanted = repository.strip()
    if not REPOSITORY.fullmatch(wanted) or ".." in wanted:
        raise NoRepository(name=wanted[:200])
    check_room(hub.file_bytes(wanted, _FILES) // MIB)
    folder = hub.fetch_files(wanted, _FILES, lambda *_: None)
    return [folder / file for file in _FILES]


def _unzip(file: Path, target: Path) -> None:
    """Only the adapter's two files, or a checkpoint, wherever they lie in it."""
    try:
        with zipfile.ZipFile(file) as packed:
            named = [(entry.filename.rpartition("/")[2], entry) for entry in packed.infolist()]
            wanted = [(name, entry) for name, entry in named if name in _FILES or _is_checkpoint(name)]
            if sum(entry.file_size for _, entry in wanted) > MOST_BYTES:
                raise AdapterTooLarge
            for name, entry in wanted:
                with packed.open(entry) as source, (target / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise NoAdapter from error


def _is_checkpoint(name: str) -> bool:
    return name.endswith(".pth") or name == _DEEPSPEED


def convert_checkpoint(file: Path, target: Path) -> None:
    """XTuner's `pth_to_hf`, without running anything of the file: tensors, and the configuration it was trained by."""
    try:
        saved = torch.load(file, map_location="cpu", weights_only=False, pickle_module=_inert_pickle(), mmap=True)
        tensors = saved["state_dict" if "state_dict" in saved else "module"]
        config = read_config(str(saved["meta"]["cfg"]).encode())
        named = {_peft_name(key): tensor.detach().contiguous() for key, tensor in tensors.items() if ".lora_" in key}
        modules = sorted({key.partition(".lora_")[0].rpartition(".")[2] for key in named})
        rank = next(iter(tensor.shape[0] for key, tensor in named.items() if ".lora_A." in key))
        alpha = config.options["alpha"]
    except (KeyError, TypeError, AttributeError, StopIteration, BadInput, RuntimeError, EOFError) as error:
        raise NoLoraInCheckpoint from error
    except (pickle.UnpicklingError, ValueError, OSError, ImportError) as error:
        raise NoLoraInCheckpoint from error
    if not all(tensor.numel() for tensor in named.values()):  # ZeRO 3 keeps them in other files
        raise NoLoraInCheckpoint
    save_file(named, target / WEIGHTS, metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": config.options.get("dropout", 0.0),
        "target_modules": modules,
        "bias": "none",
    }
    (target / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _peft_name(key: str) -> str:
    return key.removeprefix(_PREFIX).replace(".default.weight", ".weight")


class _Inert:
    """Stands for whatever a checkpoint names beyond tensors; takes anything and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "_Inert":
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_storage = module == "torch" and name.endswith("Storage") and "." not in name
        if (module, name) in _PLAIN or is_storage:
            return super().find_class(module, name)
        return _Inert


def _inert_pickle() -> Any:
    """What `torch.load` asks of a pickle module."""
    module = types.ModuleType("inert_pickle")
    module.Unpickler = _InertUnpickler  # type: ignore[attr-defined]
    module.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]

    def load(file: io.BufferedIOBase, **_: object) -> Any:
        return _InertUnpickler(cast(Any, file)).load()

    module.load = load  # type: ignore[attr-defined]
    return module
