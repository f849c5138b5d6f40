"""Judges the checkpoints of every run that has ended, by itself; goes on after a restart where it was."""

import logging
import threading

from app.errors import Language, StudioError
from app.finetune.judging import VISITOR, Interrupted, Judgement, judge, read_judgements, save_judgements
from app.finetune.runs import ACTIVE, Run, RunStore
from app.finetune.wizard import general_questions, name_questions
from app.models.interface import Registry

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


class JudgingQueue:
    """Thread-safe. A run waits for it while its `judging` is true; one run at a time, in a thread of its own."""

    def __init__(self, registry: Registry, store: RunStore) -> None:
        self.registry, self.store = registry, store
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

    def leave(self, run_id: str) -> None:
        """Take a run out; on return none of its checkpoints is in use here."""
        self.store.change(run_id, judging=False)
        with self._changed:
            self._left.add(run_id)
            self._changed.wait_for(lambda: self._at_work != run_id)
            self._left.discard(run_id)

    def _loop(self) -> None:
        while not self._closed:
            waiting = [run for run in self.store.all() if run.judging and run.state not in ACTIVE]
            for run in waiting:
                try:
                    self._judge(run)
                except Exception:
                    log.exception("judging met a fault and goes on")
            with self._changed:
                if not self._closed:
                    self._changed.wait(POLL_SECONDS)

    def _judge(self, run: Run) -> None:
        with self._changed:
            if self._closed or not any(known.id == run.id and known.judging for known in self.store.all()):
                return
            self._at_work = run.id
        try:
            self._judge_missing(run)
            self.store.change(run.id, judging=False, judging_reason="")
        except Interrupted:
            pass
        except StudioError as error:
            # while a training holds the memory there may be no room; it comes back
            if not any(other.state in ACTIVE for other in self.store.all()):
                self._give_up(run, error)
        except Exception as error:
            self._give_up(run, StudioError())
            raise error
        finally:
            with self._changed:
                self._at_work = None
                self._changed.notify_all()

    def _judge_missing(self, run: Run) -> None:
        folder = self.store.folder_of(run.id)
        steps = self.store.progress(run.id).checkpoints
        known = {found.step: found for found in read_judgements(folder) if found.step in steps}
        missing = [(step, run.checkpoint_model(step)) for step in steps if step not in known]
        language: Language = "zh" if run.language == "zh" else "en"
        names, general = name_questions(language), general_questions(language)
        stopped = lambda: self._closed or run.id in self._left  # noqa: E731
        for found in judge(self.registry.seen_by(VISITOR), run.base, missing, run.identity, names, general, stopped):
            known[found.step] = found
            save_judgements(folder, in_order(known))

    def _give_up(self, run: Run, error: StudioError) -> None:
        reason = error.text("zh" if run.language == "zh" else "en")
        self.store.change(run.id, judging=False, judging_reason=reason)


def in_order(known: dict[int, Judgement]) -> list[Judgement]:
    return [known[step] for step in sorted(known)]
