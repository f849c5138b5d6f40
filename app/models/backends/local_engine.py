"""Choose the engine for a loaded checkpoint: continuous batching where it is proven right, else one at a time."""

import hashlib
import json
import logging
import platform
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
import transformers
from transformers import PreTrainedModel

from app.models.backends.hf_generate import GenerateEngine
from app.models.engine.batch_manager import can_batch
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.proof import check_generate, check_plain
from app.models.loading.loader import LoadedModel

log = logging.getLogger(__name__)
PROOF = 3  # counts up when the proof or the batch changes, so that all models prove themselves anew
IDENTIFYING = ("*.json", "*.safetensors", "*.bin", "*.model")


class Verdicts:
    """What earlier loads have proven, in one JSON file: why a checkpoint is not batched, empty where it is.

    Thread-safe; a file that cannot be read or written only costs the proof again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        with self._lock:
            found = self._read().get(key)
        return found if isinstance(found, str) else None

    def put(self, key: str, fault: str) -> None:
        with self._lock:
            content = json.dumps({**self._read(), key: fault}, ensure_ascii=False, indent=1)
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text(content, encoding="utf-8")
            except OSError as error:
                log.warning("what a model has proven could not be kept: %s", error)

    def _read(self) -> dict[str, object]:
        try:
            values = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


def verdict_key(folder: Path, loaded: LoadedModel, quantise: str | None) -> str:
    """A hash of the checkpoint (its small files, its weights by size and time) and of what it runs on."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in IDENTIFYING for file in folder.glob(pattern)):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        if file.name == "config.json":
            digest.update(file.read_bytes())
    versions = (torch.__version__, transformers.__version__, platform.platform(), PROOF)
    digest.update(f"{loaded.model.dtype} {loaded.model.device.type} {quantise} {versions}".encode())
    return digest.hexdigest()


def open_engine(
    name: str, loaded: LoadedModel, options: EngineOptions | None, verdicts: Verdicts, key: str
) -> Engine | GenerateEngine:
    """The engine that answers as the checkpoint's makers mean it; without `options` it is not batched.

    Raises NotAModel where it cannot answer at all.
    """
    if loaded.processor is not None:
        return GenerateEngine(name, loaded)
    fault = verdicts.get(key)
    if fault is None:
        check_plain(loaded.model, name)
    if options is None or not can_batch(loaded.model):
        return _one_at_a_time(name, loaded, fault is not None, verdicts, key)
    if fault:
        return GenerateEngine(name, loaded)
    engine = Engine(name, loaded, options)
    if fault is None:
        fault = engine.proof()
        if fault:
            engine.close()
            log.warning("%s answers one request at a time: %s", name, fault)
            # the batch has changed the attention of its model, not that of the twin
            loaded = replace(loaded, model=cast(PreTrainedModel, engine.adapters.reader))
            check_generate(loaded.model, name)
            verdicts.put(key, fault)
            return GenerateEngine(name, loaded)
        verdicts.put(key, "")
    return engine


def _one_at_a_time(name: str, loaded: LoadedModel, is_proven: bool, verdicts: Verdicts, key: str) -> GenerateEngine:
    if not is_proven:
        check_generate(loaded.model, name)
        verdicts.put(key, "no attention that a batch could run")
    return GenerateEngine(name, loaded)
