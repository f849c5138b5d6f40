"""Choose the engine for a loaded checkpoint: continuous batching where it is proven right, else one at a time."""

import hashlib
import json
import logging
import platform
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
import transformers
from transformers import PreTrainedModel

from app.models.backends.hf_generate import GenerateEngine
from app.models.engine.attention_kinds import AttentionKind, attention_kinds
from app.models.engine.batchable import can_batch
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.proof import check_generate, check_plain
from app.models.loading.loader import LoadedModel

log = logging.getLogger(__name__)
PROOF = 4  # counts up when the proof or the batch changes, so that all models prove themselves anew
MOST_PACKED_TOKENS = 32768  # of a cache beside which all tokens of a step have a mask
IDENTIFYING = ("*.json", "*.safetensors", "*.bin", "*.model")


@dataclass(frozen=True)
class Verdict:
    """`fault` is why a checkpoint is not batched; where it is, `attention` is what its batch runs."""

    fault: str = ""
    attention: AttentionKind | None = None


class Verdicts:
    """What earlier loads have proven, in one JSON file: by which attention a checkpoint is batched, or why by none.

    Thread-safe; a file that cannot be read or written only costs the proof again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def get(self, key: str) -> Verdict | None:
        with self._lock:
            found = self._read().get(key)
        try:
            return Verdict(**found) if isinstance(found, dict) else None
        except TypeError:
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        with self._lock:
            content = json.dumps({**self._read(), key: asdict(verdict)}, ensure_ascii=False, indent=1)
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
    model = loaded.model
    kinds = attention_kinds(model) if can_batch(model) else ()
    versions = (torch.__version__, transformers.__version__, platform.platform(), PROOF, kinds)
    digest.update(f"{model.dtype} {model.device.type} {quantise} {versions}".encode())
    return digest.hexdigest()


def open_engine(
    name: str, loaded: LoadedModel, options: EngineOptions | None, verdicts: Verdicts, key: str
) -> Engine | GenerateEngine:
    """The engine that answers as the checkpoint's makers mean it; without `options` it is not batched.

    Raises NotAModel where it cannot answer at all.
    """
    if loaded.processor is not None:
        return GenerateEngine(name, loaded)
    proven = verdicts.get(key)
    if proven is None:
        check_plain(loaded.model, name)
    if options is None or not can_batch(loaded.model):
        if proven is None:
            check_generate(loaded.model, name)
            verdicts.put(key, Verdict("no attention that a batch could run"))
        return GenerateEngine(name, loaded)
    if proven is None:
        return _proven(name, loaded, options, verdicts, key)
    if proven.fault:
        return GenerateEngine(name, loaded)
    engine = Engine(name, loaded, _for_kind(options, proven.attention, attention_kinds(loaded.model)))
    engine.start()
    return engine


def _proven(
    name: str, loaded: LoadedModel, options: EngineOptions, verdicts: Verdicts, key: str
) -> Engine | GenerateEngine:
    """The engine with the fastest attention that gives what the plain forward pass does."""
    fault, kinds = "", attention_kinds(loaded.model)
    for kind in kinds:
        engine = Engine(name, loaded, _for_kind(options, kind, kinds))
        fault = engine.proof()
        if not fault:
            verdicts.put(key, Verdict(attention=kind))
            return engine
        engine.close()
        log.warning("%s is not batched by the attention «%s»: %s", name, kind, fault)
        # the batch has changed the attention of its model, not that of the twin
        loaded = replace(loaded, model=cast(PreTrainedModel, engine.adapters.reader))
    check_generate(loaded.model, name)
    verdicts.put(key, Verdict(fault))
    return GenerateEngine(name, loaded)


def _for_kind(options: EngineOptions, kind: AttentionKind | None, kinds: Sequence[AttentionKind]) -> EngineOptions:
    """Where a kind is the fallback whose masks grow with the cache, the cache was not sized for them."""
    masks = kind == "library" and kind != kinds[0]
    tokens = min(options.cache_tokens, MOST_PACKED_TOKENS) if masks else options.cache_tokens
    return replace(options, attention_kind=kind, cache_tokens=tokens)
