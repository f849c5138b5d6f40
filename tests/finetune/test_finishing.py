"""A run made ready for others: merged, at 4 bits, as GGUF, each step measured; a shortened model and few questions."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.client import Job
from gradio_client.exceptions import AppError

from app.errors import DoesNotFit, UnknownModel
from app.finetune.comparing import CompareService
from app.finetune.downloads import NotExported
from app.finetune.finishing import KINDS, Examination, Kind, Row, retains
from app.finetune.gguf.proof import ExportDiffers, prove
from app.finetune.gguf.quantise import FORMATS
from app.finetune.judging import GREEDY, Interrupted
from app.finetune.runs import Run, UnknownRun
from app.finetune.service import FinetuneService
from app.models.interface import Message, TokenScore
from app.models.registry.registry import ModelRegistry
from app.web import ui
from tests.conftest import Serve
from tests.fakes import FakeModel, fake_services
from tests.training_fixtures import drawn_run, fetched, few

ASKED: list[Message] = [{"role": "user", "content": "Please introduce yourself."}]
OWNER, STEP = "lin", 4
LOGINS = [(OWNER, "his password"), ("eve", "her password")]


@pytest.fixture(scope="module")
def service(
    registry: ModelRegistry, short_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FinetuneService]:
    """With one run that has ended."""
    service = FinetuneService(registry, tmp_path_factory.mktemp("finishing"), exam_of=lambda _: few())
    drawn_run(service, short_folder, [STEP])
    yield service.start()
    service.close()


@pytest.fixture(scope="module")
def run(service: FinetuneService) -> Run:
    return service.runs(OWNER)[0]


@pytest.fixture(scope="module")
def connect(
    service: FinetuneService, registry: ModelRegistry, serve_module: Serve, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Client]:
    """`connect(0)`: a program of the run's owner; 1 is somebody else."""
    comparing = CompareService(registry, tmp_path_factory.mktemp("compare"))
    address = serve_module(ui.build(fake_services(registry, finetune=service, compare=comparing)), auth=LOGINS)
    headers = {"accept-language": "en"}
    return lambda login: Client(address, verbose=False, auth=LOGINS[login], headers=headers)


@pytest.fixture(scope="module")
def asked_for(connect: Callable[[int], Client], run: Run) -> Job:
    """The endpoint has been asked, and has told all."""
    job = connect(0).submit(run.id, api_name="/finish")
    job.result()
    return job


@pytest.fixture(scope="module")
def rows(asked_for: Job, service: FinetuneService, run: Run) -> dict[Kind, Row]:
    assert asked_for.done() and service.get(OWNER, run.id).finishing_reason == ""
    return {row.kind: row for row in service.finished(OWNER, run.id)}


def test_merging_for_a_download_needs_room_in_memory(
    registry: ModelRegistry, short_folder: Path, tmp_path: Path
) -> None:
    service = FinetuneService(registry, tmp_path)
    run, ledger = drawn_run(service, short_folder, [STEP]), registry.ledger()
    room = ledger.budget_mib - sum(entry.mib for entry in ledger.models if entry.leases) - 10
    with registry.hold("trainer", "others", room, lambda _: None, keep=False), pytest.raises(DoesNotFit):
        service.download(OWNER, run.id, STEP, "merged")
    assert service.download(OWNER, run.id, STEP, "merged").files
    assert not [entry for entry in registry.ledger().models if entry.kind == "trainer"]
    service.close()


def test_the_endpoint_tells_each_row_as_soon_as_it_is_known_and_its_owner_alone(
    asked_for: Job, rows: dict[Kind, Row], connect: Callable[[int], Client], run: Run
) -> None:
    assert asked_for.result() == [row.as_dict() for row in rows.values()]
    counts = [len(told) for told in asked_for.outputs()]
    assert counts == sorted(counts) and counts[0] < len(KINDS)
    compared = connect(0).predict("Hi", run.base, run.merged_model, max_new_tokens=4, api_name="/compare")
    assert compared[1]
    with pytest.raises(AppError, match="somebody else's"):
        connect(1).predict(run.id, api_name="/finish")


def test_each_step_is_measured(rows: dict[Kind, Row]) -> None:
    assert tuple(rows) == KINDS
    base, adapter, merged = rows["base"], rows["adapter"], rows["merged"]
    assert (base.identity, base.retention) == (1.0, 1.0) and base.drift is not None and base.drift > 0.01
    assert adapter.drift is None and adapter.retention == merged.retention and adapter.identity == merged.identity
    assert merged.drift is not None and merged.drift < base.drift / 5
    assert all(row.tokens_per_s and row.memory_mib and not row.reason for row in (base, adapter, merged))


def test_the_merged_model_is_served_by_its_name(
    rows: dict[Kind, Row], registry: ModelRegistry, run: Run, service: FinetuneService
) -> None:
    name = rows["merged"].model
    assert name in registry.names() and service.get(OWNER, run.id).merged == STEP
    told = []
    for asked in (name, run.model, run.base):
        with registry.lease(asked) as model:
            told.append("".join(model.stream(ASKED, GREEDY)))
    assert told[0][:12] == told[1][:12] and told[1] != told[2]
    assert registry.folder(name) == service.store.merged_folder(run.id).resolve()


def test_the_four_bit_model_is_served_or_says_why_not(rows: dict[Kind, Row], registry: ModelRegistry) -> None:
    row = rows["quantised"]
    assert row.model == f"{rows['merged'].model}:4bit" in registry.names()
    assert row.reason or (row.identity is not None and row.drift is not None and 0 < row.drift < 1)


def test_the_adapter_over_the_four_bit_base_keeps_more_than_the_rounded_sum(rows: dict[Kind, Row], run: Run) -> None:
    """The merged weights are rounded with what was learnt in them, the base alone without it."""
    row = rows["adapter_4bit"]
    assert row.model == f"{run.base}:4bit+drawn" and not row.reason
    assert row.memory_mib and row.memory_mib < rows["adapter"].memory_mib  # type: ignore[operator]
    assert row.drift is not None and row.drift < 1


def test_exported_files_are_models_here_and_a_download_with_a_modelfile(
    rows: dict[Kind, Row], service: FinetuneService, registry: ModelRegistry, run: Run
) -> None:
    assert [rows[kind].reason for kind in FORMATS] == ["", "", ""]
    drifts = [rows[kind].drift or 0 for kind in FORMATS]
    assert drifts[0] < 0.01 and drifts[0] < drifts[2] < 1
    sizes = [rows[kind].memory_mib or 0 for kind in FORMATS]
    assert sizes == sorted(sizes, reverse=True) and {run.gguf_model(kind) for kind in FORMATS} <= set(registry.names())
    with zipfile.ZipFile(fetched(service.download(OWNER, run.id, STEP, "q4_k_m"))) as packed:
        file, modelfile = sorted(packed.namelist(), key=len, reverse=True)
        text = packed.read(modelfile).decode()
    assert file == "drawn-q4_k_m.gguf" and modelfile == "Modelfile" and text.startswith(f"FROM ./{file}\nTEMPLATE")
    assert 'PARAMETER stop "<|im_end|>"' in text and "PARAMETER temperature 0.2" in text
    service.store.change(run.id, merged=STEP + 1)
    with pytest.raises(NotExported, match="q8_0"):  # made of another checkpoint
        service.download(OWNER, run.id, STEP, "q8_0")
    service.store.change(run.id, merged=STEP)


@pytest.mark.usefixtures("rows")
def test_a_file_that_answers_otherwise_is_not_offered(registry: ModelRegistry, run: Run) -> None:
    with pytest.raises(ExportDiffers):
        prove(registry.for_visitor(OWNER), run.base, f"gguf/{run.base}/drawn-f16")
    prove(registry.for_visitor(OWNER), run.merged_model, f"gguf/{run.base}/drawn-f16")


def test_a_model_that_cannot_be_had_is_a_row_with_its_reason_and_a_stop_ends_all(
    registry: ModelRegistry, run: Run
) -> None:
    def prepare(kind: Kind) -> str:
        if kind == "adapter":
            raise UnknownModel(name="lost", known="none")
        return run.base

    seen = registry.for_visitor(OWNER)
    rows = list(Examination(seen, replace(run, language="zh"), few(), prepare, lambda: False).rows())
    assert [bool(row.reason) for row in rows] == [True, True, *[False] * (len(KINDS) - 2)]
    assert "没有名为 lost 的模型" in rows[1].reason and rows[1].retention is None and rows[2].retention == 1.0
    with pytest.raises(Interrupted):
        list(Examination(seen, run, few(), prepare, lambda: True).rows())


class Piecewise(FakeModel):
    """Holds another piece of a character likelier than the answer's; alone both read as the same mark."""

    def score_tokens(self, *_: object) -> list[TokenScore]:
        return [TokenScore("\ufffd", -3.0, (("\ufffd", -0.1),))]


def test_pieces_of_characters_that_read_alike_are_not_the_same_answer() -> None:
    assert not retains(Piecewise("tiny"), "你是谁？", "我")


def test_another_cannot_finish_it_and_the_owner_can_stop(
    rows: dict[Kind, Row], service: FinetuneService, run: Run
) -> None:
    with pytest.raises(UnknownRun):
        service.finish("eve", run.id)
    service.finish(OWNER, run.id)
    service.stop_finishing(OWNER, run.id)
    assert not service.get(OWNER, run.id).finishing
    assert len(service.finished(OWNER, run.id)) < len(rows)


def test_the_merged_model_goes_with_its_run(
    rows: dict[Kind, Row], service: FinetuneService, registry: ModelRegistry, run: Run
) -> None:
    name = rows["merged"].model
    service.delete(OWNER, run.id)
    assert not {name, run.model, run.quantised_adapter, run.gguf_model("f16")} & set(registry.names())
    assert not service.store.folder_of(run.id).exists()
    with pytest.raises(UnknownModel), registry.lease(name):
        pass
