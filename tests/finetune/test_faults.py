"""Refusals of the fine-tuning service, two users at once, and judging that goes on after a restart."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.access.client_address import ClientAddresses
from app.access.identity import server
from app.errors import StudioError
from app.finetune.errors import NothingToJudge, NothingToResume
from app.finetune.estimate import DiskTooFull, measure_base
from app.finetune.judging import Judgement, save_judgements
from app.finetune.limits import DiskShareFull, QueueFull, RunLimits, TooManyRuns, TooManySteps
from app.finetune.options import TrainOptions
from app.finetune.runs import Run, RunNameTaken, UnknownRun
from app.finetune.service import FinetuneService
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.training_fixtures import BASE, BRIEF, ROWS, drawn_run, few
from tests.waiting import wait_for


def test_no_room_on_disk_is_said_before_anything_starts(registry: ModelRegistry, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path)
    endless = TrainOptions(**{**BRIEF.as_dict(), "steps": 1_000_000, "rank": 512, "save_every": 1})
    with pytest.raises(DiskTooFull):
        service.submit("a", "vast", BASE, ROWS, endless)
    assert service.runs("a") == []


def test_two_users_who_press_at_once(registry: ModelRegistry, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path)
    gate = threading.Barrier(6)
    made: list[Run] = []
    refused: list[StudioError] = []

    def press(owner: str, name: str) -> None:
        gate.wait()
        try:
            made.append(service.submit(owner, name, BASE, ROWS, BRIEF))
        except StudioError as error:
            refused.append(error)

    names = ["same", "same", "same", "one", "two", "three"]
    threads = [threading.Thread(target=press, args=(f"user {n}", name)) for n, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(run.name for run in made) == ["one", "same", "three", "two"]
    assert [type(error) for error in refused] == [RunNameTaken, RunNameTaken]
    assert sorted(service.ahead_of(run) for run in made) == [0, 1, 2, 3]


def test_where_models_are_private_a_name_that_another_took_is_free(packaged_folder: Path, tmp_path: Path) -> None:
    placement = Placement("cpu", "float32", None, 8192, packaged_folder.parents[1])
    service = FinetuneService(ModelRegistry(placement, BASE, private=True), tmp_path)
    made = {owner: service.submit(owner, "same", BASE, ROWS, BRIEF) for owner in ("ada", "lin", server("terminal"))}
    assert [run.name for run in made.values()] == ["same"] * 3
    assert len({run.model for run in made.values()} | {run.merged_model for run in made.values()}) == 6
    assert made[server("terminal")].model == f"{BASE}+same"
    with pytest.raises(RunNameTaken):
        service.submit("lin", "same", BASE, ROWS, BRIEF)


def test_judging_goes_on_after_a_restart_and_can_be_asked_for_again(
    registry: ModelRegistry, short_folder: Path, tmp_path: Path
) -> None:
    ended = FinetuneService(registry, tmp_path)
    run = drawn_run(ended, short_folder, [2, 4])
    # as a server leaves it that ended after the first of two checkpoints
    ended.store.change(run.id, judging=True)
    first = Judgement(step=2, identity=0.25, retention=0.5, sample="from before")
    save_judgements(ended.store.folder_of(run.id), [first])
    service = FinetuneService(registry, tmp_path, exam_of=lambda _: few()).start()
    wait_for(lambda: not service.get("lin", run.id).judging)
    known, found = service.judgements("lin", run.id)
    assert known == first and found.step == 4 and found.sample
    assert service.judge("lin", run.id).judging
    assert service.judgements("lin", run.id) == []
    wait_for(lambda: not service.get("lin", run.id).judging)
    again = service.judgements("lin", run.id)
    assert again[0].step == 2 and again[0] != first and again[1] == found
    service.close()
    with pytest.raises(UnknownRun):
        service.judge("eve", run.id)


def test_nothing_to_judge_and_nothing_to_resume(registry: ModelRegistry, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path)
    run = service.submit("a", "waits", BASE, ROWS, BRIEF)
    service.stop("a", run.id)
    with pytest.raises(NothingToJudge):
        service.judge("a", run.id)
    with pytest.raises(NothingToResume):
        service.resume("a", run.id, step=4)


def test_a_base_in_bin_files_is_measured_like_any_other(packaged_folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    shutil.copy(packaged_folder / "config.json", tmp_path)
    torch.save(load_file(packaged_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert measure_base(tmp_path, "own") == measure_base(packaged_folder, BASE)


def test_strangers_are_limited_and_the_server_is_not(registry: ModelRegistry, tiny_base: str, tmp_path: Path) -> None:
    addresses = ClientAddresses(watched=True)
    for number, visitor in enumerate(("ada", "lin", "eve")):
        addresses.note(visitor, "8.8.8.8" if number < 2 else "9.9.9.9")
    limits = RunLimits(steps=10, runs=1, waiting=4, disk_mib=100, days=1)
    service = FinetuneService(registry, tmp_path, limits=limits, addresses=addresses)

    def submit(owner: str, steps: int = 10) -> Run:
        options = replace(BRIEF, steps=steps)
        return service.submit(owner, f"run{len(service.store.all())}", tiny_base, ROWS, options)

    with pytest.raises(TooManySteps, match="at most 10 steps, 11"):
        submit("ada", 11)
    first = submit("ada")
    with pytest.raises(TooManyRuns):
        submit("ada")
    service.stop("ada", first.id)
    with pytest.raises(TooManySteps):
        service.resume("ada", first.id, extra_steps=5)
    others = [f"more{number}" for number in range(2)]
    for other in others:
        addresses.note(other, "8.8.8.8")
        submit(other)
    with pytest.raises(TooManyRuns):  # three of one network
        submit("lin")
    submit("eve")
    assert submit(server("terminal"), 11).total == 11
    addresses.note("bob", "7.7.7.7")
    with pytest.raises(QueueFull):
        submit("bob")
    (service.store.folder_of(first.id) / "large").write_bytes(bytes(99 * 2**20))
    service.store.change(first.id, state="stopped")
    service.stop("eve", service.runs("eve")[0].id)
    with pytest.raises(DiskShareFull):
        submit("bob")


def test_a_stranger_s_run_goes_when_its_time_is_over(registry: ModelRegistry, tiny_base: str, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path, limits=RunLimits(days=1))
    old, new, own = (service.submit(owner, owner[:3], tiny_base, ROWS, BRIEF) for owner in ("old", "new", server("t")))
    for run in (old, new, own):
        service.stop(run.owner, run.id)
    for run in (old, own):
        service.store.change(run.id, created=1.0, ended=time.time() - 90_000)
    service.judging.start()
    wait_for(lambda: service.runs("old") == [])
    assert service.runs("new") and service.runs(own.owner) and not service.store.folder_of(old.id).exists()
    service.close()
