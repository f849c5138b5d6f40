"""What goes wrong around a training: no room, no disk, several at once, a server that ends while it judges."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from app.access.identity import server
from app.errors import DoesNotFit, StudioError
from app.finetune.estimate import DiskTooFull, measure_base
from app.finetune.judging import Judgement, save_judgements
from app.finetune.options import TrainOptions
from app.finetune.queue import DiskFull, WaitsForRoom
from app.finetune.runs import ACTIVE, Run, RunNameTaken, UnknownRun
from app.finetune.service import FinetuneService, NothingToJudge, NothingToResume
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tabs.shell.page import Visitor
from tabs.tuning import training
from tabs.tuning.comparison import show_judgements
from tests.finetune.test_training import BRIEF, ROWS, answer
from tests.training_fixtures import BASE, Trained, wait_for


def test_the_trainers_room_is_given_and_taken_back_and_a_crash_shows_its_last_line(
    packaged_folder: Path, tmp_path: Path
) -> None:
    data = packaged_folder.parents[1]
    registry = ModelRegistry(Placement("cpu", "float32", None, 1900, data), BASE)
    before = answer(registry, BASE)
    service = FinetuneService(registry, tmp_path)
    run = service.submit("a", "bad", BASE, ROWS, BRIEF)
    folder = service.store.folder_of(run.id)
    (folder / "data.json").write_text(json.dumps([]), encoding="utf-8")
    with registry.lease(BASE):
        service.start()
        wait_for(lambda: service.get("a", run.id).reason == WaitsForRoom().text("en"))
        assert service.get("a", run.id).state == "queued"
    wait_for(lambda: service.get("a", run.id).state in ACTIVE)
    held = {entry.kind: entry for entry in registry.ledger().models if entry.mib}
    assert set(held) == {"trainer"} and held["trainer"].mib > 1000 and service.get("a", run.id).reason == ""
    with pytest.raises(DoesNotFit), registry.lease(BASE):
        pass
    wait_for(lambda: service.get("a", run.id).state == "failed")
    assert not [entry for entry in registry.ledger().models if entry.kind == "trainer"]
    assert answer(registry, BASE) == before
    reason = service.get("a", run.id).reason
    assert "Error" in reason and "Traceback" not in reason
    assert service.status("a", run.id)["reason"] == reason
    service.delete("a", run.id)
    assert service.runs("a") == [] and not folder.exists()
    service.close()
    registry.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, as large as a short run needs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_in_one_sentence_and_what_was_saved_stays(
    registry: ModelRegistry, tiny_base: str, small_disk: Path
) -> None:
    service = FinetuneService(registry, small_disk).start()
    # an adapter larger than what will be left of the disk, saved a few times before there could be no room by itself
    large = {"steps": 1000, "rank": 64, "save_every": 50, "evaluate_every": 1000}
    run = service.submit("a", "full", tiny_base, ROWS, TrainOptions(**{**BRIEF.as_dict(), **large}))
    wait_for(lambda: service.progress("a", run.id).checkpoints != ())
    (small_disk / "somebody else's").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**18))
    wait_for(lambda: service.get("a", run.id).state not in ("queued", *ACTIVE))
    ended, saved = service.get("a", run.id), service.progress("a", run.id).checkpoints
    assert (ended.state, ended.chosen) == ("failed", saved[-1])
    assert ended.reason == DiskFull(step=service.progress("a", run.id).step).text("en")
    kept = service.store.folder_of(run.id)
    assert [file.name for file in (kept / "work").glob("*.pth")] == [f"iter_{saved[-1]}.pth"]
    assert {folder.name for folder in (kept / "checkpoints").iterdir()} == {str(step) for step in saved}
    with registry.lease(ended.model) as model:
        assert model.name == ended.model
    service.close()


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
    trained: Trained, registry: ModelRegistry, tmp_path: Path
) -> None:
    source = trained.service.store.folder_of(trained.run.id)
    copy = Path(shutil.copytree(source, tmp_path / "runs" / source.name))
    told = json.loads((copy / "run.json").read_text(encoding="utf-8"))
    # as a server leaves it that ended after the first of two checkpoints
    (copy / "run.json").write_text(json.dumps({**told, "name": "copied", "judging": True}), encoding="utf-8")
    first = Judgement(step=8, identity=0.25, kept=0.5, sample="from before")
    save_judgements(copy, [first])
    service = FinetuneService(registry, tmp_path).start()
    wait_for(lambda: not service.get("lin", source.name).judging)
    assert service.judgements("lin", source.name)[0] == first
    assert service.judgements("lin", source.name)[1] == trained.service.judgements("lin", source.name)[1]
    assert service.judge("lin", source.name).judging
    assert service.judgements("lin", source.name) == []
    service.close()
    with pytest.raises(UnknownRun):
        service.judge("eve", source.name)


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


def test_the_page_draws_a_run_again_only_when_something_happened(registry: ModelRegistry, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path)
    run = service.submit("a", "drawn", BASE, ROWS, BRIEF)
    visitor = Visitor("en", "a", "session")
    first = training.show(service, visitor, None)
    assert first[0]["value"] == run.id and "Queued" in first[1]
    assert training.show(service, visitor, run.id, first[-1]) == gr.skip()
    with (service.store.folder_of(run.id) / "events.jsonl").open("a", encoding="utf-8") as events:
        for step in (1, 2):
            events.write(json.dumps({"time": step, "kind": "step", "step": step, "loss": 2.0, "rate": 1e-3}) + "\n")
    later = training.show(service, visitor, run.id, first[-1])
    assert "Step 2 of 6" in later[1] and later[2]["visible"] and later[3]["visible"]
    assert training.show(service, Visitor("en", "b", "other"), run.id, first[-1])[0]["value"] is None


def test_curves_slider_and_both_columns_follow_the_judgements(registry: ModelRegistry, tmp_path: Path) -> None:
    service = FinetuneService(registry, tmp_path)
    run = service.submit("a", "curved", BASE, ROWS, BRIEF)
    visitor = Visitor("en", "a", "session")
    folder = service.store.folder_of(run.id)
    with (folder / "events.jsonl").open("a", encoding="utf-8") as events:
        for step in (2, 4):
            events.write(json.dumps({"time": step, "kind": "checkpoint", "step": step}) + "\n")
    service.store.change(run.id, state="finished", chosen=4, judging=True)
    save_judgements(folder, [Judgement(2, 0.5, 0.75, "")])
    curves, slider, note, again, shown, left, right = show_judgements(service, visitor, run.id, None)
    assert curves["visible"] and not slider["visible"] and not again["visible"] and "1 of 2" in note
    assert (left["value"], right["value"]) == (BASE, run.model)
    save_judgements(folder, [Judgement(2, 0.5, 0.75, ""), Judgement(4, 1.0, 0.5, "")])
    service.store.change(run.id, judging=False)
    curves, slider, note, again, shown, left, right = show_judgements(service, visitor, run.id, shown)
    assert len(curves["value"]) == 4 and slider["visible"] and again["visible"] and note == ""
    assert (slider["minimum"], slider["maximum"], left, right) == (2, 4, gr.skip(), gr.skip())
    curves, slider, *_ = show_judgements(service, visitor, run.id, shown)
    assert curves == slider == gr.skip()
