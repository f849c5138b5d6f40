"""A registry of fakes whose visitors have an allowance."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.models.interface import ChatModel
from app.models.registry.metering import Allowance, Meter
from tests.fakes import FakeModel, FakeRegistry


class Metered(FakeRegistry):
    """Leases metered models."""

    def __init__(self, *models: FakeModel, allowance: Allowance) -> None:
        super().__init__(*models)
        self.meter = Meter(allowance)

    @contextmanager
    def lease(self, name: str) -> Iterator[ChatModel]:  # type: ignore[override]
        with super().lease(name) as model:
            yield self.meter.model(model)
