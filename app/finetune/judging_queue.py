"""Background queue that judges the checkpoints of finished runs, and merges and measures a run on request.

Both outlive the page and go on after a restart: judging where it was, finishing from its start.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from app.errors import Language, StudioError
from app.finetune.downloads import keep_gguf, keep_merged
from app.finetune.finishing import Examination, Kind, Row, save_rows
from app.finetune.gguf.proof import prove
from app.finetune.gguf.quantise import FORMATS, NoQuantiser
from app.finetune.judging import VISITOR, Exam, Interrupted, Judgement, judge, read_judgements, save_judgements
from app.finetune.limits import RunLimits
from app.finetune.queue import TrainingQueue
from app.finetune.runs import ACTIVE, Run

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


class JudgingQueue:
    """Thread-safe. A run waits for it while its `judging` or `finishing` is true; one at a time, in its own thread."""

    def __init__(
        self,
        queue: TrainingQueue,
        exam_of: Callable[[Language], Exam] = Exam.of,
        limits: RunLimits = RunLimits(),  # noqa: B008  frozen
    ) -> None:
        self._limits = limits
        self.queue, self.registry, self.store = queue, queue.registry, queue.store
        self._exam_of = exam_of
        self._at_work: str | None = None
        self._left: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="judging", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Leave off; what is judged so far is kept, the next server goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def again(self, run_id: str) -> Run:
        """Judge all checkpoints of a run anew."""
        self.leave(run_id)
        save_judgements(self.store.folder_of(run_id), [])
        changed = self.store.change(run_id, judging=True, judging_reason="")
        with self._changed:
            self._changed.notify_all()
        return changed

    def finish(self, run_id: str) -> Run:
        """Merge the chosen checkpoint, load it whole and at 4 bits, and measure each step; see finishing.py."""
        self.leave(run_id, judging=self.store.get(run_id).judging)
        save_rows(self.store.folder_of(run_id), [])
        changed = self.store.change(run_id, finishing=True, finishing_reason="")
        with self._changed:
            self._changed.notify_all()
        return changed

    def leave(self, run_id: str, *, judging: bool = False) -> None:
        """Take a run out, but for its judging where that is wanted; on return nothing of it is in use here."""
        self.store.change(run_id, judging=judging, finishing=False)
        with self._changed:
            self._left.add(run_id)
            self._changed.wait_for(lambda: self._at_work != run_id)
            self._left.discard(run_id)

    def is_at_work(self, run_id: str) -> bool:
        return self._at_work == run_id

    def _loop(self) -> None:
        while not self._closed:
            self._forget_old()
            waiting = [run for run in self.store.all() if _waits(run)]
            for run in waiting:
                try:
                    self._work(run.id)
                except Exception:
                    log.exception("judging met a fault and goes on")
            with self._changed:
                if not self._closed:
                    self._changed.wait(POLL_SECONDS)

    def _forget_old(self) -> None:
        """Delete the runs whose time is over; one that is in use goes later."""
        for run in filter(self._limits.is_over, self.store.all()):
            with suppress(StudioError):
                self.queue.withdraw(run)
                self.store.delete(run.id)

    def _work(self, run_id: str) -> None:
        with self._changed:
            run = next((known for known in self.store.all() if known.id == run_id and _waits(known)), None)
            if self._closed or run is None:
                return
            self._at_work = run.id
        try:
            if run.judging:
                self._judge_missing(run)
                self.store.change(run.id, judging=False, judging_reason="")
            else:
                self._finish(run)
                self.store.change(run.id, finishing=False)
        except Interrupted:
            pass
        except StudioError as error:
            # while a training holds the memory there may be no room; it comes back
            if run.finishing or not any(other.state in ACTIVE for other in self.store.all()):
                self._give_up(run, error)
        except Exception as error:
            self._give_up(run, StudioError())
            raise error
        finally:
            with self._changed:
                self._at_work = None
                self._changed.notify_all()

    def _stopped(self, run: Run) -> bool:
        return self._closed or run.id in self._left

    def _finish(self, run: Run) -> None:
        def prepare(kind: Kind) -> str:
            now = self.store.get(run.id)
            if kind not in ("base", "adapter") and now.merged != run.chosen:
                self.queue.withdraw_merged(now)
                now = keep_merged(self.registry, self.store, run, stopped)
                self.queue.show_merged(now)
            if kind in FORMATS:
                self._export(now, kind, stopped)
            names = {"base": run.base, "adapter": run.model, "adapter_4bit": run.quantised_adapter}
            whole = {"merged": run.merged_model, "quantised": f"{run.merged_model}:4bit"}
            return (names | whole).get(kind) or run.gguf_model(kind)

        stopped = partial(self._stopped, run)
        rows: list[Row] = []
        exam = self._exam_of("zh" if run.language == "zh" else "en")
        for row in Examination(self.registry.for_visitor(VISITOR), run, exam, prepare, stopped).rows():
            rows.append(row)
            save_rows(self.store.folder_of(run.id), rows)

    def _export(self, run: Run, wanted: str, stopped: Callable[[], bool]) -> None:
        """Make all GGUF files where none are there, and prove them by the first. Raises what says why not."""
        if not self.store.gguf_folder(run.id).is_dir():
            keep_gguf(self.registry, self.store, run, stopped)
            self.queue.show_merged(run)
            try:
                prove(self.registry.for_visitor(VISITOR), run.merged_model, run.gguf_model(FORMATS[0]))
            except BaseException:
                self.queue.withdraw_gguf(run)
                raise
        if wanted not in self.store.gguf_files(run):
            raise NoQuantiser(wanted=wanted)

    def _judge_missing(self, run: Run) -> None:
        folder = self.store.folder_of(run.id)
        steps = self.store.progress(run.id).checkpoints
        known = {found.step: found for found in read_judgements(folder) if found.step in steps}
        missing = [(step, run.checkpoint_model(step)) for step in steps if step not in known]
        exam = self._exam_of("zh" if run.language == "zh" else "en")
        stopped = partial(self._stopped, run)
        seen = self.registry.for_visitor(VISITOR)
        for found in judge(seen, run.base, missing, run.identity, exam, stopped):
            known[found.step] = found
            save_judgements(folder, in_order(known))

    def _give_up(self, run: Run, error: StudioError) -> None:
        reason = error.text("zh" if run.language == "zh" else "en")
        if run.judging:
            self.store.change(run.id, judging=False, judging_reason=reason)
        else:
            self.store.change(run.id, finishing=False, finishing_reason=reason)


def _waits(run: Run) -> bool:
    return (run.judging or run.finishing) and run.state not in ACTIVE


def in_order(known: dict[int, Judgement]) -> list[Judgement]:
    return [known[step] for step in sorted(known)]
