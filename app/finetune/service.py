"""Fine-tuning service, used by the page, the endpoint and the command line."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from app.access.client_address import ClientAddresses
from app.access.identity import Server
from app.access.links import Links
from app.errors import Language
from app.finetune import process
from app.finetune.adapter_host import AdapterHost
from app.finetune.adapter_import import STEP, bring_in, fetch_repository
from app.finetune.bases import base_folder, trainable
from app.finetune.data import Conversation
from app.finetune.datasets import DataSets
from app.finetune.downloads import PATH, Download, MergeFailed, offer
from app.finetune.errors import (
    NeedsCuda,
    NoRepositories,
    NothingToJudge,
    NothingToResume,
    StillRunning,
)
from app.finetune.estimate import MIB, Estimate, estimate, measure_base, require_disk
from app.finetune.finishing import Row, read_rows
from app.finetune.judging import Exam, Judgement, read_judgements
from app.finetune.judging_queue import JudgingQueue
from app.finetune.limits import RunLimits
from app.finetune.options import TrainOptions
from app.finetune.own_answers import LONGEST
from app.finetune.preview import Preview, check_for
from app.finetune.progress import TrainingProgress
from app.finetune.queue import TrainingQueue
from app.finetune.resuming import resume
from app.finetune.runs import ACTIVE, Run, RunStore, UnknownRun, known_pace, mark_of, new_id


class FinetuneService:
    """Runs of all owners; each sees and steers only their own. Call `start` once, `close` at the end."""

    def __init__(
        self,
        registry: AdapterHost,
        data_folder: Path,
        *,
        cuda: bool = False,
        exam_of: Callable[[Language], Exam] = Exam.of,
        trainer_module: str = process.XTUNER,
        limits: RunLimits = RunLimits(),  # noqa: B008  frozen
        addresses: ClientAddresses | None = None,
    ) -> None:
        self.registry = registry
        self.cuda = cuda
        self.limits, self.addresses = limits, addresses or ClientAddresses()
        self.store = RunStore(data_folder / "runs")
        self.datasets = DataSets(data_folder / "datasets", limits)
        self.queue = TrainingQueue(registry, self.store, cuda, trainer_module)
        self.judging = JudgingQueue(self.queue, exam_of, limits)
        self.links: Links[Download] = Links(PATH + "?key={key}")

    def start(self) -> "FinetuneService":
        self.queue.start()
        self.judging.start()
        return self

    def close(self) -> None:
        self.judging.close()
        self.queue.close()

    def preview(self, base: str, conversations: Sequence[Conversation], options: TrainOptions) -> Preview:
        """Check every row against the base; what passes can be trained.

        Raises BadData, NothingLearnt, AnswersBeyondLength, ContextTooShort, TrainsNoVision or TrainsNoGguf.
        """
        return check_for(base_folder(self.registry, base), base, conversations, options)

    def estimate(self, base: str, preview: Preview, options: TrainOptions) -> Estimate:
        """Memory, disk and time, from how fast an equal run on this base was, else from the base's size."""
        size = measure_base(self.registry.folder(base), base)
        steps = options.total_steps(preview.trained)
        pace = known_pace(self.store, self.registry.named(base), options)
        return estimate(size, options, steps, preview.tokens, self.cuda, pace)

    def submit(
        self,
        owner: str,
        name: str,
        base: str,
        conversations: Sequence[Conversation],
        options: TrainOptions,
        *,
        questions: Sequence[str] = (),
        language: Language = "en",
        identity: str = "",
        own_answers: Sequence[int] = (),
    ) -> Run:
        """Check everything and put the run into the queue.

        The rows `own_answers`, counted from 0, are trained with what the base itself answers to their questions.
        """
        if options.method == "qlora" and not self.cuda:
            raise NeedsCuda
        preview = self.preview(base, conversations, options)
        base = self.registry.named(base)
        self.limits.check_steps(owner, options.total_steps(preview.trained))
        self._check_room(owner, self.estimate(base, preview, options).disk_mib)
        now = time.time()
        run = Run(
            id=new_id(),
            name=name.strip(),
            base=base,
            owner=owner,
            created=now,
            options=options,
            rows=preview.rows,
            total=options.total_steps(preview.trained),
            width=min(options.max_length, max(preview.tokens) + (LONGEST if own_answers else 0)),
            language=language,
            mark=self._mark(owner),
            identity=identity,
            queued=now,
        )
        created = self.store.create(
            run,
            conversations,
            {"questions": list(questions), "own_answers": list(own_answers), "validation": list(preview.held_out)},
        )
        self.queue.wake()
        return created

    def bring_in(self, owner: str, name: str, base: str, files: Sequence[Path], language: Language = "en") -> Run:
        """An adapter trained elsewhere as a run of its own: PEFT's files, a ZIP of them, or XTuner's .pth."""
        base_folder(self.registry, base)
        base = self.registry.named(base)
        self._check_room(owner, sum(file.stat().st_size for file in files) // MIB)
        now, mark = time.time(), self._mark(owner)
        made = Run(new_id(), name.strip(), base, owner, now, TrainOptions(), rows=0, total=STEP, mark=mark)
        return bring_in(self.queue, replace(made, language=language, queued=now), files)

    def bring_in_repository(self, owner: str, name: str, base: str, repository: str, language: Language = "en") -> Run:
        """The same for a PEFT adapter in a repository of the hub. Raises DownloadFailed too."""
        if not self.limits.repositories and not isinstance(owner, Server):
            raise NoRepositories
        files = fetch_repository(repository, lambda mib: self._check_room(owner, mib))
        return self.bring_in(owner, name, base, files, language)

    def _check_room(self, owner: str, mib: int) -> None:
        """Whether one more run of this size may come."""
        self.limits.check_room(owner, self.store.all(), self.addresses, self.store.folder, mib)
        require_disk(self.store.folder, mib)

    def _mark(self, owner: str) -> str:
        return mark_of(owner) if self.registry.private else ""

    def runs(self, owner: str) -> list[Run]:
        """This owner's runs, the newest first."""
        return [run for run in reversed(self.store.all()) if run.owner == owner]

    def get(self, owner: str, run_id: str) -> Run:
        run = self.store.get(run_id)
        if run.owner != owner:
            raise UnknownRun
        return run

    def progress(self, owner: str, run_id: str) -> TrainingProgress:
        return self.store.progress(self.get(owner, run_id).id)

    def status(self, owner: str, run_id: str) -> dict[str, Any]:
        """The run as `/finetune` tells it."""
        run, progress = self.get(owner, run_id), self.store.progress(run_id)
        left = run.total - progress.step
        pace = progress.seconds_per_step
        return {
            "state": run.state,
            "step": progress.step,
            "total": run.total,
            "loss": progress.loss,
            "eta_s": round(left * pace, 1) if pace is not None and run.state in ACTIVE else None,
            "checkpoint": run.checkpoint_model(progress.checkpoints[-1]) if progress.checkpoints else None,
            "run": run.id,
            "reason": run.reason,
        }

    def ahead_of(self, run: Run) -> int:
        """Runs that end before this one starts."""
        others = [other for other in self.store.all() if other.id != run.id]
        return sum(other.state in ACTIVE or (other.state == "queued" and other.queued < run.queued) for other in others)

    def stop(self, owner: str, run_id: str) -> None:
        """Save a checkpoint and end; asked a second time, end at once."""
        run = self.get(owner, run_id)
        if run.state == "queued":
            self.store.change(run_id, state="stopped", ended=time.time())
        elif run.state in ACTIVE:
            process.end(run.pid, run.pid_created, kill=run.stopping)
            self.store.change(run_id, stopping=True)
        self.queue.wake()

    def resume(self, owner: str, run_id: str, step: int = 0, extra_steps: int = 0) -> Run:
        """Go on from a checkpoint (0: the newest), with more steps than first asked for if wanted."""
        return resume(self.judging, self.limits, self._resting(owner, run_id), step, extra_steps)

    def choose(self, owner: str, run_id: str, step: int) -> Run:
        """Let the run's model be this checkpoint, in every list."""
        run = self._resting(owner, run_id)
        if step not in self.store.progress(run_id).checkpoints:
            raise NothingToResume(step=step)
        self.queue.show(run.model, self.store.adapter_folder(run_id, step), run.owner)
        return self.store.change(run_id, chosen=step)

    def delete(self, owner: str, run_id: str) -> None:
        run = self._resting(owner, run_id)
        self.judging.leave(run_id)
        self.queue.withdraw(run)
        self.store.delete(run_id)

    def log(self, owner: str, run_id: str, characters: int = 8000) -> str:
        """The end of what the training process wrote."""
        return self.store.end_of(self.get(owner, run_id).id, process.LOG)[-characters:]

    def config(self, owner: str, run_id: str) -> str:
        """The XTuner configuration, empty before the run has started."""
        return self.store.end_of(self.get(owner, run_id).id, "config.py")

    def download(self, owner: str, run_id: str, step: int, kind: str = "adapter") -> Download:
        """A checkpoint as one ZIP file: its PEFT adapter, the base with it merged in, or a GGUF file; see `offer`."""
        run = self.get(owner, run_id)
        if not self.store.adapter_folder(run_id, step).is_dir():
            raise NothingToResume(step=step)

        room = partial(self.limits.check_disk, owner, self.store.all(), self.store.folder)
        try:
            return offer(self.store, self.registry, run, step, kind, room)
        except (MergeFailed, OSError):
            if self.store.adapter_folder(run_id, step).is_dir():
                raise
            raise NothingToResume(step=step) from None  # it was deleted meanwhile

    def _resting(self, owner: str, run_id: str) -> Run:
        run = self.get(owner, run_id)
        if run.is_under_way:
            raise StillRunning
        return run

    def judge(self, owner: str, run_id: str) -> Run:
        """Judge every checkpoint of a run anew; by itself that happens at the end of each run."""
        self._resting(owner, run_id)
        if not self.store.progress(run_id).checkpoints:
            raise NothingToJudge
        return self.judging.again(run_id)

    def finish(self, owner: str, run_id: str) -> Run:
        """Merge, quantise, serve and measure the run's chosen checkpoint, in the background."""
        if not self._resting(owner, run_id).chosen:
            raise NothingToJudge
        return self.judging.finish(run_id)

    def stop_finishing(self, owner: str, run_id: str) -> None:
        """Leave off; the rows that are known stay."""
        self.judging.leave(run_id, judging=self.get(owner, run_id).judging)

    def is_measured_now(self, run: Run) -> bool:
        """Whether it is this run's turn to be finished; else it waits for its own judging or for other runs."""
        return run.finishing and not run.judging and self.judging.is_at_work(run.id)

    def finished(self, owner: str, run_id: str) -> list[Row]:
        """The table of a run that was finished, as far as it is known."""
        return read_rows(self.store.folder_of(self.get(owner, run_id).id))

    def judgements(self, owner: str, run_id: str) -> list[Judgement]:
        """What was judged so far, of checkpoints that are still there."""
        steps = self.progress(owner, run_id).checkpoints
        return [found for found in read_judgements(self.store.folder_of(run_id)) if found.step in steps]

    def bases(self, visitor: str) -> list[str]:
        """Models that this visitor can train."""
        return trainable(self.registry, visitor)
