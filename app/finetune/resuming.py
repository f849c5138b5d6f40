"""Go on with a training from one of its checkpoints."""

import time

from app.finetune.errors import AllStepsDone, NothingToResume, TrainedElsewhere
from app.finetune.judging import read_judgements, save_judgements
from app.finetune.judging_queue import JudgingQueue
from app.finetune.limits import RunLimits
from app.finetune.options import BadOption
from app.finetune.runs import Run

MOST_STEPS = 1_000_000


def resume(judging: JudgingQueue, limits: RunLimits, run: Run, step: int, extra_steps: int) -> Run:
    """Put a run that rests into the queue again: from `step` (0: the newest checkpoint), what came after it forgotten.

    Raises TrainedElsewhere, NothingToResume, BadOption, TooManySteps, AllStepsDone.
    """
    queue, store = judging.queue, judging.store
    if run.is_brought_in:
        raise TrainedElsewhere
    checkpoints = store.progress(run.id).checkpoints
    start = step or (checkpoints[-1] if checkpoints else 0)
    if step and step not in checkpoints:
        raise NothingToResume(step=step)
    if not 0 <= extra_steps <= MOST_STEPS:
        raise BadOption(key="steps", value=extra_steps, allowed=f"0 - {MOST_STEPS}")
    total = run.total + extra_steps
    limits.check_steps(run.owner, total)
    if start >= total:
        raise AllStepsDone(total=run.total)
    judging.leave(run.id)
    queue.withdraw(run)
    store.forget_after(run.id, start)
    folder = store.folder_of(run.id)
    save_judgements(folder, [found for found in read_judgements(folder) if found.step <= start])
    changed = store.change(
        run.id,
        state="queued",
        queued=time.time(),
        resume_from=start,
        total=total,
        reason="",
        restarts=0,
        chosen=0,
        merged=0,
    )
    queue.wake()
    return changed
