"""A run made ready for others: merged, at 4 bits, each step measured; the packaged model and few questions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import UnknownModel
from app.finetune.finishing import KINDS, Exam, Examination, Kind, Row
from app.finetune.judging import GREEDY, Interrupted
from app.finetune.runs import Run
from app.finetune.service import FinetuneService
from app.finetune.wizard import general_questions, name_questions
from app.models.interface import Message
from app.models.registry import ModelRegistry
from tests.finetune.conftest import BASE, NAME, WORDING, Trained, wait_for

ASKED: list[Message] = [{"role": "user", "content": "Please introduce yourself."}]
OWNER = "lin"


def few(_: object = None) -> Exam:
    general = general_questions("en")
    return Exam(name_questions("en")[:2], general[:3], general[:1], general[3:5])


@pytest.fixture(scope="module")
def service(trained: Trained) -> Iterator[FinetuneService]:
    """The service of the trained run, as the next server starts it, with a shorter exam."""
    trained.service.close()
    service = FinetuneService(trained.registry, trained.service.store.folder.parent, exam_of=few).start()
    yield service
    service.close()


@pytest.fixture(scope="module")
def rows(service: FinetuneService, trained: Trained) -> dict[Kind, Row]:
    service.finish(OWNER, trained.run.id)
    wait_for(lambda: not service.get(OWNER, trained.run.id).finishing)
    assert service.get(OWNER, trained.run.id).finishing_reason == ""
    return {row.kind: row for row in service.finished(OWNER, trained.run.id)}


def test_each_step_is_measured(rows: dict[Kind, Row]) -> None:
    assert tuple(rows) == KINDS
    base, adapter, merged = rows["base"], rows["adapter"], rows["merged"]
    assert (base.identity, base.kept) == (0.0, 1.0) and base.drift is not None and base.drift > 0.1
    assert adapter.identity == merged.identity == 1.0 and adapter.drift is None
    assert merged.drift is not None and merged.drift < base.drift / 5
    assert all(row.tokens_per_s and row.memory_mib and not row.reason for row in (base, adapter, merged))


def test_the_merged_model_is_served_by_its_name(
    rows: dict[Kind, Row], registry: ModelRegistry, trained: Trained, service: FinetuneService
) -> None:
    name = rows["merged"].model
    assert name in registry.names() and service.get(OWNER, trained.run.id).merged == trained.run.chosen
    with registry.lease(name) as model:
        assert "".join(model.stream(ASKED, GREEDY)) == WORDING.replace("{name}", NAME)
    assert registry.folder(name) == service.store.merged_folder(trained.run.id)


def test_the_four_bit_model_is_served_or_says_why_not(rows: dict[Kind, Row], registry: ModelRegistry) -> None:
    row = rows["quantised"]
    assert row.model == f"{rows['merged'].model}:4bit" in registry.names()
    assert row.reason or (row.identity == 1.0 and row.drift is not None and row.drift < 1)


def test_a_model_that_cannot_be_had_is_a_row_with_its_reason_and_a_stop_ends_all(
    registry: ModelRegistry, trained: Trained
) -> None:
    def prepare(kind: Kind) -> str:
        if kind == "adapter":
            raise UnknownModel(name="lost", known="none")
        return BASE

    seen = registry.seen_by(OWNER)
    rows = list(Examination(seen, replace(trained.run, language="zh"), few(), prepare, lambda: False).rows())
    assert [bool(row.reason) for row in rows] == [True, True, False, False]
    assert "没有名为 lost 的模型" in rows[1].reason and rows[1].kept is None and rows[2].kept == 1.0
    with pytest.raises(Interrupted):
        list(Examination(seen, trained.run, few(), prepare, lambda: True).rows())


def test_stopping_deleting_and_strangers(
    rows: dict[Kind, Row], service: FinetuneService, registry: ModelRegistry, trained: Trained
) -> None:
    run: Run = service.finish(OWNER, trained.run.id)
    service.stop_finishing(OWNER, run.id)
    assert not service.get(OWNER, run.id).finishing and len(service.finished(OWNER, run.id)) < len(KINDS)
    with pytest.raises(Exception, match="not found"):
        service.finish("eve", run.id)
    folder: Path = service.store.merged_folder(run.id)
    assert folder.is_dir()
    name = rows["merged"].model
    service.queue.withdraw_merged(service.get(OWNER, run.id))
    assert name not in registry.names() and not folder.exists()
    with pytest.raises(UnknownModel), registry.lease(name):
        pass
