"""The training queue with a stub trainer: order, restarts, kills at named points, stops, memory and disk."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import DoesNotFit, StudioError
from app.finetune import process
from app.finetune.errors import DiskFull, Diverged, NothingToResume, OutOfMemory, StillRunning, WaitsForRoom
from app.finetune.options import TrainOptions
from app.finetune.runs import ACTIVE, Run
from app.finetune.service import FinetuneService
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.training_fixtures import BRIEF, ROWS, STUB
from tests.waiting import wait_for

Open = Callable[..., FinetuneService]


@pytest.fixture
def open_service(registry: ModelRegistry, tmp_path: Path) -> Iterator[Open]:
    """`open_service()`: a server's training half on one data folder; what still trains at the end is killed."""
    opened: list[FinetuneService] = []

    def open_one(memory: ModelRegistry = registry, folder: Path = tmp_path) -> FinetuneService:
        opened.append(FinetuneService(memory, folder, trainer_module=STUB))
        return opened[-1]

    yield open_one
    for service in opened:
        service.queue.close()
    for run in opened[-1].store.all():
        process.end(run.pid, run.pid_created, kill=True)


@pytest.fixture
def submit(tiny_base: str, tiny_adapter: Path) -> Callable[..., Run]:
    """`submit(service, name, **script)`: a run of the tiny base whose stub does what the script says."""

    def submit_one(service: FinetuneService, name: str, options: TrainOptions = BRIEF, **script: Any) -> Run:
        run = service.submit("a", name, tiny_base, ROWS, options)
        text = json.dumps({"adapter": str(tiny_adapter), **script})
        (service.store.folder_of(run.id) / "stub.json").write_text(text, encoding="utf-8")
        return run

    return submit_one


def ended(service: FinetuneService, run: Run) -> Run:
    wait_for(lambda: not service.get("a", run.id).is_under_way)
    return service.get("a", run.id)


def kill(run: Run) -> None:
    assert run.pid, "it has ended already"  # 0 would be this process and all that it has started
    os.kill(run.pid, signal.SIGKILL)
    wait_for(lambda: not process.is_alive(run.pid, run.pid_created))


def test_a_queue_a_restart_a_stop_and_a_resume(
    open_service: Open, submit: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    service = open_service()
    first, second = submit(service, "one", hold_at=3), submit(service, "two", hold_at=1)
    service.queue.start()
    wait_for(lambda: service.progress("a", first.id).step == 3)
    assert service.get("a", second.id).state == "queued" and service.ahead_of(second) == 1
    with pytest.raises(StillRunning):
        service.delete("a", first.id)
    service.queue.close()
    found = service.get("a", first.id)
    assert f"goes on in process {found.pid}" in caplog.text and process.is_alive(found.pid, found.pid_created)

    again = open_service()
    again.queue.start()
    wait_for(lambda: again.get("a", first.id).state == "training")
    again.stop("a", first.id)
    stopped = ended(again, first)
    assert (stopped.state, stopped.chosen, stopped.pid) == ("stopped", 3, 0)
    assert again.progress("a", first.id).checkpoints == (2, 3)
    wait_for(lambda: again.get("a", second.id).state in ACTIVE)
    with pytest.raises(NothingToResume):
        again.resume("a", first.id, step=4)
    resumed = again.resume("a", first.id, step=2, extra_steps=1)
    assert (resumed.state, resumed.resume_from, resumed.total) == ("queued", 2, 7)
    (again.store.folder_of(second.id) / "go").touch()
    (again.store.folder_of(first.id) / "go").touch()
    assert ended(again, first).state == ended(again, second).state == "finished"
    assert [step for step, *_ in again.progress("a", first.id).curve] == list(range(1, 8))
    assert again.progress("a", first.id).checkpoints == (2, 4, 6, 7) and again.get("a", first.id).chosen == 7


@pytest.mark.parametrize(
    ("script", "start"), [({"hold_at": "start"}, 0), ({"hold_at": 3}, 2), ({"hold_in_save": 4}, 2)]
)
def test_killed_twice_together_with_its_server_it_goes_on_from_its_last_checkpoint(
    open_service: Open, submit: Callable[..., Run], script: dict[str, Any], start: int
) -> None:
    service = open_service()
    run = submit(service, "killed", **script)
    folder = service.store.folder_of(run.id)
    service.queue.start()
    for restarts in (0, 1):
        await_hold(service, run, restarts)
        service.queue.close()
        kill(service.get("a", run.id))
        service = open_service()
        service.queue.start()
    await_hold(service, run, 2)
    assert service.get("a", run.id).reason.endswith(f"by itself from step {start}.")
    (folder / "go").touch()
    assert ended(service, run).state == "finished" and service.get("a", run.id).reason == ""
    assert [step for step, *_ in service.progress("a", run.id).curve] == [1, 2, 3, 4, 5, 6]
    assert service.progress("a", run.id).checkpoints == (2, 4, 6)
    assert {file.stem for file in (folder / "work").iterdir()} == {"iter_2", "iter_4", "iter_6"}


def await_hold(service: FinetuneService, run: Run, restarts: int) -> None:
    """Until the trainer, started so many times anew, holds where its script says; its file `held` names it."""
    held = service.store.folder_of(run.id) / "held"

    def is_there() -> bool:
        now = service.get("a", run.id)
        return now.restarts == restarts and now.pid != 0 and held.exists() and held.read_text() == str(now.pid)

    wait_for(is_there)


def test_a_training_that_its_dead_server_had_not_noted_is_found_and_not_started_twice(
    open_service: Open, submit: Callable[..., Run]
) -> None:
    service = open_service()
    run = submit(service, "orphan", hold_at=3)
    service.queue.start()
    wait_for(lambda: service.progress("a", run.id).step == 3)
    service.queue.close()
    pid = service.get("a", run.id).pid
    service.store.change(run.id, state="queued", pid=0, pid_created=0.0)
    again = open_service()
    again.queue.start()
    wait_for(lambda: again.get("a", run.id).state == "training")
    assert again.get("a", run.id).pid == pid
    (again.store.folder_of(run.id) / "go").touch()
    assert ended(again, run).state == "finished"
    assert [step for step, *_ in again.progress("a", run.id).curve] == [1, 2, 3, 4, 5, 6]


def test_how_a_training_failed_is_one_sentence_that_says_what_to_do(
    open_service: Open, submit: Callable[..., Run]
) -> None:
    service = open_service()
    early, late = submit(service, "early", fail_at=1), submit(service, "late", fail_at=3)
    memory = submit(service, "memory", fail_at=3, fails_with="CUDA out of memory. Tried to allocate 2 GiB")
    diverged, killed = submit(service, "diverged", diverges_at=3), submit(service, "killed", hold_at=3)
    service.queue.start()
    assert "error at step 0" in ended(service, early).reason and "start it again" in ended(service, early).reason
    assert "error at step 2" in ended(service, late).reason and "step 2 is kept: resume" in ended(service, late).reason
    assert ended(service, memory).reason == OutOfMemory(step=2).text("en")
    assert ended(service, diverged).reason == Diverged(step=3).text("en")
    wait_for(lambda: service.progress("a", killed.id).step == 3)
    kill(service.get("a", killed.id))
    assert "was killed at step 3" in ended(service, killed).reason
    for run in (early, late, memory, diverged, killed):
        reason = service.status("a", run.id)["reason"]
        assert service.get("a", run.id).state == "failed" and "Error" not in reason and "mmengine" not in reason
    assert "RuntimeError: the stub was told to fail" in service.log("a", early.id)


def test_the_trainers_room_is_given_and_taken_back(
    open_service: Open, submit: Callable[..., Run], tiny_base: str, tmp_path: Path
) -> None:
    asking = open_service()
    need = asking.estimate(tiny_base, asking.preview(tiny_base, ROWS, BRIEF), BRIEF).memory_mib
    registry = ModelRegistry(Placement("cpu", "float32", None, need + 1, tmp_path), tiny_base)
    service = open_service(registry, tmp_path / "other")
    run = submit(service, "waits", hold_at=1)
    with registry.lease(tiny_base):
        service.queue.start()
        wait_for(lambda: service.get("a", run.id).reason == WaitsForRoom().text("en"))
        assert service.get("a", run.id).state == "queued"
    wait_for(lambda: service.get("a", run.id).state in ACTIVE)
    assert [(entry.kind, entry.mib) for entry in registry.ledger().models if entry.mib] == [("trainer", need)]
    assert service.get("a", run.id).reason == ""
    with pytest.raises(DoesNotFit), registry.lease(tiny_base):
        pass
    (service.store.folder_of(run.id) / "go").touch()
    assert ended(service, run).state == "finished"
    assert not [entry for entry in registry.ledger().models if entry.kind == "trainer"]
    service.delete("a", run.id)
    assert service.runs("a") == [] and not service.store.folder_of(run.id).exists()
    registry.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, as large as a short run needs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_in_one_sentence_and_what_was_saved_stays(
    registry: ModelRegistry, open_service: Open, submit: Callable[..., Run], small_disk: Path
) -> None:
    service = open_service(registry, small_disk)
    run = submit(service, "full", hold_at=3)
    service.queue.start()
    wait_for(lambda: service.progress("a", run.id).step == 3)
    folder = service.store.folder_of(run.id)
    (small_disk / "somebody else's").write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))
    (folder / "go").touch()
    failed = ended(service, run)
    assert (failed.state, failed.chosen) == ("failed", 2)
    assert failed.reason == DiskFull(step=service.progress("a", run.id).step).text("en")
    assert [file.name for file in (folder / "work").glob("*.pth")] == ["iter_2.pth"]
    assert [kept.name for kept in (folder / "checkpoints").iterdir()] == ["2"]
    with registry.lease(failed.model) as model:
        assert model.name == failed.model


def test_a_model_that_is_gone_is_said(open_service: Open, submit: Callable[..., Run]) -> None:
    service = open_service()
    run = submit(service, "gone")
    service.store.change(run.id, base="/no/such/folder")
    service.queue.start()
    assert ended(service, run).state == "failed"
    with pytest.raises(StudioError):
        service.queue.registry.folder("/no/such/folder")
    assert service.get("a", run.id).reason
    service.store.adapter_folder(run.id, 2).mkdir(parents=True)
    (service.store.folder_of(run.id) / "events.jsonl").write_text('{"kind": "checkpoint", "step": 2}\n')
    service.queue.close()
    again = open_service()
    again.queue.start()  # its adapter belongs to no base any more, which is no reason not to start
    assert [run.model in again.registry.names(), len(again.runs("a"))] == [False, 1]


def test_the_checkpoint_with_the_lowest_validation_loss_becomes_the_model(
    open_service: Open, submit: Callable[..., Run]
) -> None:
    service = open_service()
    run = submit(service, "judged", validation=[0.9, 0.7, 0.6, 0.4, 0.5, 0.8])
    service.queue.start()
    found = ended(service, run)
    assert (found.state, found.chosen) == ("finished", 4) and "ended early; step 4 is used" in found.reason
    assert service.progress("a", run.id).validation[3] == (4, 0.4)
