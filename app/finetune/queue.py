"""Training queue: start one run at a time, watch it, publish its adapters."""

import logging
import re
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from app.errors import DoesNotFit, Language, ModelInUse, StudioError
from app.finetune import process
from app.finetune.adapter_host import AdapterHost
from app.finetune.errors import (
    CanResume,
    DiskFull,
    Diverged,
    MustStartAnew,
    OutOfMemory,
    StoppedEarly,
    TrainerFailed,
    TrainerKilled,
    WaitsForRoom,
    WentOn,
)
from app.finetune.estimate import Estimate, estimate, measure_base, require_disk
from app.finetune.progress import TrainingProgress
from app.finetune.runs import ACTIVE, Run, RunStore, State
from app.finetune.xtuner_config import write_config

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5
DISK_IS_FULL = 2**20  # bytes that are left
MOST_RESTARTS = 3  # of a run whose training ended together with the server
_DISK_SIGNS = ("No space left", "Errno 28", "PytorchStreamWriter")
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "MemoryError")


class TrainingQueue:
    """Thread-safe. Its own thread is the only one that starts trainings and notes their ends."""

    def __init__(
        self, registry: AdapterHost, store: RunStore, cuda: bool, trainer_module: str = process.XTUNER
    ) -> None:
        self.registry, self.store, self.cuda, self.trainer_module = registry, store, cuda, trainer_module
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._rooms: dict[str, ExitStack] = {}
        self._published: dict[str, Path] = {}
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="training queue", daemon=True)

    def start(self) -> None:
        """Find again what was running or waiting when the server ended, and go on."""
        for run in self.store.all():
            try:
                if (public := self.registry.named(run.base)) != run.base:  # named by a path before
                    run = self.store.change(run.id, base=public)
                self.publish(run)
                self.show_merged(run)
            except StudioError as error:  # its base's folder is gone, or its files are
                log.warning("%s is not offered: %s", run.model, error.text("en"))
        self._thread.start()

    def close(self) -> None:
        """Stop watching; a training that runs goes on and is found again by the next server."""
        for run in self.store.all():
            if run.state in ACTIVE:
                log.warning("training %s goes on in process %d; the next start finds it again", run.model, run.pid)
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        for room in self._rooms.values():
            room.close()

    def wake(self) -> None:
        self._wake.set()

    def withdraw(self, run: Run) -> None:
        """Take a run's adapters and its merged model out of the model lists. Raises ModelInUse."""
        self.withdraw_merged(run)
        for name in [name for name in self._published if name.partition("@")[0] == run.model]:
            self.registry.remove_adapter(name)
            del self._published[name]

    def withdraw_merged(self, run: Run) -> None:
        """Take a run's merged and exported models out of the lists, out of memory and off the disk.

        Raises ModelInUse.
        """
        self.withdraw_gguf(run)
        self.registry.remove_adapter(run.quantised_adapter)
        self._published.pop(run.quantised_adapter, None)
        self.registry.remove_model(run.merged_model)
        shutil.rmtree(self.store.merged_folder(run.id), ignore_errors=True)

    def withdraw_gguf(self, run: Run) -> None:
        """The same for the exported files alone. Raises ModelInUse."""
        for wanted in self.store.gguf_files(run):
            self.registry.remove_model(run.gguf_model(wanted))
        shutil.rmtree(self.store.gguf_folder(run.id), ignore_errors=True)

    def show_merged(self, run: Run) -> None:
        """Put into its owner's model lists what was made of a run: merged, exported, the adapter over 4 bits."""
        folder, adapter = self.store.merged_folder(run.id), self.store.adapter_folder(run.id, run.merged)
        if run.merged and folder.is_dir():
            self.registry.add_model(run.merged_model, folder, run.owner)
            if adapter.is_dir():
                self.show(run.quantised_adapter, adapter, run.owner)
        for wanted, file in self.store.gguf_files(run).items():
            self.registry.add_model(run.gguf_model(wanted), file, run.owner)

    def show(self, name: str, folder: Path, owner: str) -> None:
        """Put an adapter into its owner's model lists, in place of another of that name."""
        if self._published.get(name) == folder:
            return
        if name in self._published:
            self.registry.remove_adapter(name)
        self.registry.add_adapter(name, folder, owner)
        self._published[name] = folder

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                self._turn()
            except Exception:
                log.exception("the training queue met a fault and goes on")
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def _turn(self) -> None:
        runs = self.store.all()
        active = [self._watch(run) for run in runs if run.state in ACTIVE]
        if any(run.state in ACTIVE for run in active):
            return
        waiting = sorted((run for run in runs if run.state == "queued"), key=lambda run: run.queued)
        if waiting:
            self._launch(waiting[0])

    def _watch(self, run: Run) -> Run:
        self.publish(run)
        child = self._children.get(run.id)
        alive = child.poll() is None if child else process.is_alive(run.pid, run.pid_created)
        if not alive:
            return self._finish(run, child.returncode if child else None)
        if run.id not in self._rooms:
            # found again after a restart: it runs, whether there is room or not
            with suppress(StudioError):
                self._make_room(run)
        if run.state == "starting" and self.store.progress(run.id).last not in ("", "phase", "finished", "stopped"):
            return self.store.change(run.id, state="training")
        return run

    def _launch(self, run: Run) -> None:
        folder = self.store.folder_of(run.id)
        try:
            self._make_room(run)
            arguments = self._arguments(run, folder)
        except StudioError as error:
            self._release(run)
            if isinstance(error, DoesNotFit) and self._would_ever_fit(run):
                self._wait_for_room(run)
            else:
                self.store.change(run.id, state="failed", reason=error.text(_language(run)))
            return
        # a server that died before it noted the process number may have left one that trains
        found = process.find(arguments[1])
        if found is None:
            child = self._children[run.id] = process.start_tool(arguments, folder, self.trainer_module)
            found = child.pid, process.created_at(child.pid)
        pid, created = found
        reason = WentOn(step=run.resume_from).text(_language(run)) if run.restarts else ""
        self.store.change(run.id, state="starting", pid=pid, pid_created=created, reason=reason)

    def _wait_for_room(self, run: Run) -> None:
        """Somebody's answer or a judging holds the memory; the run stays first in the queue."""
        reason = WaitsForRoom().text(_language(run))
        if run.reason != reason:
            self.store.change(run.id, reason=reason)

    def _arguments(self, run: Run, folder: Path) -> list[str]:
        config = folder / "config.py"
        if config.exists():
            # it may have been edited; only the number of steps is ours to change
            text = re.sub(r"(?m)^steps = \d+$", f"steps = {run.total}", config.read_text(encoding="utf-8"))
        else:
            base = self.registry.folder(run.base)
            text = write_config(
                run.options,
                steps=run.total,
                base_name=run.base,
                base_folder=base.resolve(),
                run_folder=folder.resolve(),
                cuda=self.cuda,
            )
        config.write_text(text, encoding="utf-8")
        work = folder.resolve() / "work"
        arguments = ["train", str(config.resolve()), "--work-dir", str(work)]
        if run.resume_from:
            arguments += ["--resume", str(work / f"iter_{run.resume_from * run.options.accumulation}.pth")]
        return arguments

    def _needs(self, run: Run) -> Estimate:
        size = measure_base(self.registry.folder(run.base), run.base)
        return estimate(size, run.options, run.total, (run.width,) if run.width else (), self.cuda)

    def _would_ever_fit(self, run: Run) -> bool:
        return self._needs(run).memory_mib <= self.registry.ledger().budget_mib

    def _make_room(self, run: Run) -> None:
        needed = self._needs(run)
        require_disk(self.store.folder, needed.disk_mib)
        room = ExitStack()
        name = f"trainer: {run.name}"
        device = "cuda" if self.cuda else "cpu"
        room.enter_context(self.registry.hold("trainer", name, needed.memory_mib, lambda _: None, device, keep=False))
        self._rooms[run.id] = room

    def _release(self, run: Run) -> None:
        room = self._rooms.pop(run.id, None)
        if room is not None:
            room.close()

    def _finish(self, run: Run, code: int | None) -> Run:
        self._children.pop(run.id, None)
        self._release(run)
        progress = self.store.progress(run.id)
        failure = self._failure(run, progress, code)
        # what was half-written is of no use, and may be what fills the disk
        self.store.sweep(run.id, run.options.accumulation)
        if failure and code is None and run.restarts < MOST_RESTARTS:
            return self._go_on(run, progress)
        chosen = progress.best
        # first the adapters: whoever sees the run at its end may use them
        self.publish(replace(run, chosen=chosen))
        early = StoppedEarly(patience=run.options.patience, best=chosen) if progress.stopped_early else None
        reason = failure or early
        ended: State = "finished" if progress.last == "finished" else "stopped"
        return self.store.change(
            run.id,
            state="failed" if failure else ended,
            reason=reason.text(_language(run)) if reason else "",
            ended=time.time(),
            stopping=False,
            pid=0,
            pid_created=0.0,
            chosen=chosen,
            judging=bool(progress.checkpoints),
            judging_reason="",
        )

    def _go_on(self, run: Run, progress: TrainingProgress) -> Run:
        """Its server ended and so did its training, unseen: go on from the last checkpoint."""
        step = progress.checkpoints[-1] if progress.checkpoints else 0
        reason = WentOn(step=step).text(_language(run))
        log.warning("training %s ended unseen at step %d and goes on from step %d", run.model, progress.step, step)
        restarts = run.restarts + 1
        return self.store.change(
            run.id, state="queued", resume_from=step, reason=reason, restarts=restarts, pid=0, pid_created=0.0
        )

    def _failure(self, run: Run, progress: TrainingProgress, code: int | None) -> StudioError | None:
        """Why a training ended that neither finished nor was stopped; `code` is None where nobody saw it end."""
        if progress.last in ("finished", "stopped") or run.stopping:
            return None
        if progress.last == "diverged":
            return Diverged(step=progress.step)
        words = process.last_words(self.store.folder_of(run.id))
        if any(sign in words for sign in _DISK_SIGNS) or shutil.disk_usage(self.store.folder).free < DISK_IS_FULL:
            return DiskFull(step=progress.step)
        if any(sign in words for sign in _MEMORY_SIGNS):
            return OutOfMemory(step=progress.step)
        last = progress.checkpoints[-1] if progress.checkpoints else 0
        what_next = (CanResume(checkpoint=last) if last else MustStartAnew()).text(_language(run))
        kind = TrainerKilled if code is None or code < 0 else TrainerFailed
        return kind(step=progress.step, what_next=what_next)

    def publish(self, run: Run) -> None:
        """Put a run's checkpoints, and the chosen one under its own name, into the model lists."""
        for step in self.store.progress(run.id).checkpoints:
            folder = self.store.adapter_folder(run.id, step)
            if folder.is_dir():
                self.show(run.checkpoint_model(step), folder, run.owner)
        if run.chosen and self.store.adapter_folder(run.id, run.chosen).is_dir():
            with suppress(ModelInUse):  # somebody talks to the one before; tried again at the next turn
                self.show(run.model, self.store.adapter_folder(run.id, run.chosen), run.owner)


def _language(run: Run) -> Language:
    return "zh" if run.language == "zh" else "en"
