"""Lease a model that may be too large for the memory: a refusal names the quantised variant of it that would fit."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from app.errors import DoesNotFit
from app.models.ledger import Fit
from app.models.registry.memory_manager import MemoryManager
from app.models.registry.model_spec import ModelSpecs
from app.models.registry.resident import ModelSpec, Resident


class FitsQuantised(DoesNotFit):
    zh = "模型 {name} 需要 {needed_mib} MiB，可用 {free_mib} MiB。它的量化版本 {alternative} 放得下，请选择它。"
    en = (
        "The model {name} needs {needed_mib} MiB and {free_mib} MiB are free."
        " Quantised, as {alternative}, it fits: choose that."
    )


class Fitting:
    """`engines` are names of models that other engines serve: they have no variants here."""

    def __init__(self, memory_manager: MemoryManager, specs: ModelSpecs, engines: Collection[str]) -> None:
        self._memory_manager, self._specs, self._engines = memory_manager, specs, engines

    @contextmanager
    def lease(self, spec: ModelSpec) -> Iterator[Resident]:
        """Raises DoesNotFit or FitsQuantised, and what loading raises."""
        lease = self._memory_manager.lease(spec)
        try:
            resident = lease.__enter__()
        except DoesNotFit as error:
            if alternative := self._alternative(spec.name):
                raise FitsQuantised(**error.values | {"alternative": alternative}) from None
            raise
        with ExitStack() as ended:
            ended.push(lease)
            yield resident

    def fit(self, spec: ModelSpec) -> Fit:
        """Whether it would fit now, and else what would."""
        fit = self._memory_manager.fit(spec)
        return replace(fit, alternative="" if fit.fits else self._alternative(spec.name))

    def _alternative(self, base: str) -> str:
        """A quantised variant of a base that would fit now; empty where there is none."""
        if base in self._engines:
            return ""
        for name in self._specs.quantised_variants(base):
            if self._memory_manager.fit(self._specs.spec(name)).fits:
                return name
        return ""
