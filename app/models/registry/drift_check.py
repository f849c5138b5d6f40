"""Compare a quantised model with itself at full precision; reference answers are cached in the data folder."""

import hashlib
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

from app.errors import ModelError, ModelInUse
from app.models.interface import ChatModel, Drift, DriftStep, Ledger
from app.models.loading.checkpoint import weight_files
from app.models.registry.drift import Answer, CannotScore, Reference, answered, compared, prompts, summary
from app.models.registry.model_spec import ModelSpecs


class NotQuantised(ModelError):
    zh = "模型 {name} 按全精度运行，没有偏移可测。请加载它的量化版本，例如 {name}:4bit。"
    en = "The model {name} runs at full precision, there is no drift. Load it quantised, for example as {name}:4bit."


class NoFullWeights(ModelError):
    zh = "GGUF 文件 {name} 不带全精度权重，没有可比较的参照。"
    en = "The GGUF file {name} comes without the full-precision weights, so there is nothing to compare it with."


class Leases(Protocol):
    """The registry, as a check sees it."""

    def lease(self, name: str) -> AbstractContextManager[ChatModel]: ...
    def unload(self, name: str) -> None: ...
    def ledger(self) -> Ledger: ...


class DriftChecks:
    """The drifts that were measured since the start; one check runs at a time. `asked` are the prompts."""

    def __init__(self, registry: Leases, specs: ModelSpecs, asked: Sequence[str]) -> None:
        self._registry, self._specs, self._asked = registry, specs, asked
        self._found: dict[str, Drift] = {}
        self._one_at_a_time = threading.Lock()

    def check(self, base: str) -> Generator[DriftStep | Drift, None, None]:
        """See `against_full`; measured once."""
        with self._one_at_a_time:
            if base not in self._found:
                for step in against_full(self._registry, self._specs, base, self._asked or prompts()):
                    if isinstance(step, Drift):
                        self._found[base] = step
                    else:
                        yield step
            yield self._found[base]

    def known(self, base: str) -> Drift | None:
        return self._found.get(base)

    def forget(self, base: str) -> None:
        self._found.pop(base, None)


def against_full(
    registry: Leases, specs: ModelSpecs, name: str, asked: Sequence[str]
) -> Generator[DriftStep | Drift, None, None]:
    """How far the quantised `name` is from the same weights at full precision, in answers to the prompts `asked`.

    The last value tells. One model is held at a time, so that both need not fit together. Raises NotQuantised,
    CannotScore, or what loading raises.
    """
    chosen = specs.chosen(name)
    if specs.known(chosen.card).modality == "vision":  # before anything is loaded
        raise CannotScore(name=name)
    if chosen.quantise is None:
        raise (NoFullWeights if chosen.card.gguf else NotQuantised)(name=name)
    reference = yield from _reference(registry, specs, f"{chosen.card.name}:full", asked)
    total = len(reference.answers)
    yield DriftStep("quantised", 0, total)
    found = []
    with registry.lease(name) as model:
        for differences in compared(reference, model):
            found.append(differences)
            yield DriftStep("quantised", len(found), total)
    yield summary(name, found)


def _reference(
    registry: Leases, specs: ModelSpecs, full: str, asked: Sequence[str]
) -> Generator[DriftStep, None, Reference]:
    identity = _identity(specs.folder(full), specs.full_dtype(full), asked)
    file = specs.placement.data / "drift" / f"{identity}.json"
    kept = Reference.read(file)
    if kept is not None:
        return kept
    name = specs.chosen(full).name
    was_there = any(entry.name == name and entry.state == "ready" for entry in registry.ledger().models)
    yield DriftStep("full", 0, len(asked))
    answers: list[Answer] = []
    try:
        with registry.lease(full) as model:
            for answer in answered(model, asked):
                answers.append(answer)
                yield DriftStep("full", len(answers), len(asked))
    finally:
        if not was_there:
            with suppress(ModelInUse):  # somebody has begun to talk to it
                registry.unload(full)
    reference = Reference(tuple(answers))
    reference.save(file)
    return reference


def _identity(folder: Path, dtype: str, asked: Sequence[str]) -> str:
    """Changes with the weights, the prompts and the number format."""
    told = [dtype, *asked, str(folder.resolve())]
    for file in weight_files(folder, folder.name):
        about = file.stat()
        told.append(f"{file.name} {about.st_size} {about.st_mtime_ns}")
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:24]
