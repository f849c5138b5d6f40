"""Status, curves and samples of one training run, drawn for the page."""

from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr

from app.finetune.finishing import KINDS
from app.finetune.progress import TrainingProgress
from app.finetune.runs import ACTIVE, Run
from app.finetune.service import FinetuneService
from tabs.shell.page import Visitor
from tabs.shell.tables import table_html
from tabs.tuning.charts import over_steps
from tabs.tuning.training_widgets import Watch

CURVE_POINTS = 500
GROWN = 1.1  # a chart is drawn anew when it has a tenth more points


@dataclass(frozen=True)
class Shown:
    """What of a run stands on the page: drawing anew takes the browser's processor, which may be the trainer's too.
    The curves are drawn with `points` of training."""

    run_id: str
    choices: tuple[tuple[str, str], ...]
    status: str
    samples: int
    checkpoints: tuple[int, ...]
    validations: int
    points: int
    log: str
    config: str
    is_busy: bool

    def is_like(self, other: "Shown") -> bool:
        """Whether it is the same run in the same state and language: only parts of it are drawn anew."""
        return (self.run_id, self.choices) == (other.run_id, other.choices)


def show(service: FinetuneService, watch: Watch, visitor: Visitor, run_id: str | None, shown: Shown | None) -> Any:
    """The view of one run: the one that was chosen, else the newest. Only what has changed is drawn anew."""
    runs = service.runs(visitor.name)
    run = next((run for run in runs if run.id == run_id), runs[0] if runs else None)
    choices = tuple((f"{run.name} · {visitor.text(f'compare.state.{run.state}')}", run.id) for run in runs)
    if run is None:
        return _nothing(watch, visitor)
    progress = service.store.progress(run.id)
    now = Shown(
        run_id=run.id,
        choices=choices,
        status=status_html(service, visitor, run, progress),
        samples=len(progress.samples),
        checkpoints=progress.checkpoints,
        validations=len(progress.validation),
        points=len(progress.curve),
        log=service.log(visitor.name, run.id),
        config=service.config(visitor.name, run.id),
        is_busy=run.is_under_way or run.judging or run.finishing,
    )
    if shown and shown.is_like(now) and shown.validations == now.validations and now.points < GROWN * shown.points:
        now = replace(now, points=shown.points)
    return gr.skip() if shown == now else _changed(watch, visitor, run, progress, shown, now)


def _changed(
    watch: Watch, visitor: Visitor, run: Run, progress: TrainingProgress, shown: Shown | None, now: Shown
) -> dict[Any, Any]:
    """What is another now than it was."""
    old = shown if shown and shown.is_like(now) else None
    view: dict[Any, Any] = {watch.status: now.status, watch.shown: now}
    if old is None:
        view[watch.runs] = gr.update(choices=list(now.choices), value=run.id)
        view[watch.stop] = gr.update(visible=run.is_under_way)
        view[watch.at_rest] = gr.update(visible=not run.is_under_way)
    if old is None or (old.points, old.validations) != (now.points, now.validations):
        view[watch.curve], view[watch.rates] = _curves(visitor, progress)
    if old is None or old.samples != now.samples:
        view[watch.samples] = samples_html(progress)
    if shown is None or (shown.run_id, shown.checkpoints) != (now.run_id, now.checkpoints):  # else a choice stays
        view[watch.checkpoint] = gr.update(choices=_checkpoints(visitor, progress), value=progress.best or None)
    if old is None or old.is_busy != now.is_busy:
        view[watch.timer] = gr.Timer(active=now.is_busy)
    texts = [(watch.log, "log"), (watch.config, "config")]
    return view | {box: getattr(now, name) for box, name in texts if getattr(old, name, None) != getattr(now, name)}


def _nothing(watch: Watch, visitor: Visitor) -> dict[Any, Any]:
    hidden = [watch.curve, watch.rates, watch.stop, watch.at_rest]
    return {component: gr.update(visible=False) for component in hidden} | {
        watch.runs: gr.update(choices=[], value=None),
        watch.status: f"<p>{escape(visitor.text('compare.no_run'))}</p>",
        watch.samples: "",
        watch.log: "",
        watch.config: "",
        watch.timer: gr.Timer(active=False),
        watch.shown: None,
    }


def status_html(service: FinetuneService, visitor: Visitor, run: Run, progress: TrainingProgress) -> str:
    """State, step, loss, time left, and why it failed."""
    done = 100 * progress.step // max(1, run.total)
    bar = f'<div class="bar"><i style="width:{done}%"></i></div>'
    kind = "failure" if run.state == "failed" else "nothing"
    reason = f'<p class="{kind}">{escape(run.reason)}</p>' if run.reason else ""
    what_next = escape(visitor.text("compare.what_next"))
    model = f"<p>→ <code>{escape(run.model)}</code> · {what_next}</p>" if run.chosen else ""
    parts = " · ".join(_status_parts(service, visitor, run, progress))
    return f'<div class="tune-state {run.state}">{parts}</div>{bar}{reason}{model}'


def _status_parts(service: FinetuneService, visitor: Visitor, run: Run, progress: TrainingProgress) -> list[str]:
    state = "stopping" if run.stopping and run.is_under_way else run.state
    parts = [f"<b>{escape(visitor.text(f'compare.state.{state}'))}</b>"]
    if run.state == "queued" and (ahead := service.ahead_of(run)):
        parts.append(visitor.text("compare.ahead", count=ahead))
    if run.state == "starting" and progress.phase is not None:
        parts.append(visitor.text(f"compare.phases.{progress.phase.phase}"))
        if progress.phase.total:
            parts.append(f"{progress.phase.done} / {progress.phase.total}")
    else:
        parts.append(visitor.text("compare.progress", step=progress.step, total=run.total))
    if progress.curve:
        _, loss, rate = progress.curve[-1]
        parts += [f"{visitor.text('compare.loss')} {loss:.3f}", f"{visitor.text('compare.rate')} {rate:.1e}"]
    eta = service.status(visitor.name, run.id)["eta_s"]
    if eta is not None and run.state in ACTIVE:
        parts.append(visitor.text("compare.eta", time=duration(visitor, eta)))
    if run.judging and not run.is_under_way:
        judged = len(service.judgements(visitor.name, run.id))
        parts.append(visitor.text("compare.judging", done=judged, total=len(progress.checkpoints)))
    if run.finishing:
        done = len(service.finished(visitor.name, run.id))
        key = "compare.finish_progress" if service.is_measured_now(run) else "compare.finish_waits"
        parts.append(visitor.text(key, done=done, total=len(KINDS)))
    return parts


def samples_html(progress: TrainingProgress) -> str:
    """How the answer to each question changed."""
    questions = dict.fromkeys(sample.question for sample in progress.samples)
    blocks = []
    for question in questions:
        rows = [
            f"<tr><td>{sample.step}</td><td>{escape(sample.answer)}</td></tr>"
            for sample in progress.samples
            if sample.question == question
        ]
        blocks.append(f"<h4>{escape(question)}</h4>{table_html([], rows)}")
    return "".join(blocks)


def _checkpoints(visitor: Visitor, progress: TrainingProgress) -> list[tuple[str, int]]:
    best = progress.best if progress.validation else 0
    mark = visitor.text("compare.best_checkpoint")
    return [(f"{step} · {mark}" if step == best else str(step), step) for step in progress.checkpoints]


def _curves(visitor: Visitor, progress: TrainingProgress) -> tuple[dict[str, Any], dict[str, Any]]:
    """Losses and learning rate over the steps; at most about CURVE_POINTS points each."""
    every = max(1, len(progress.curve) // CURVE_POINTS)
    points = progress.curve[::every]
    if len(points) < 2:
        return gr.update(visible=False), gr.update(visible=False)
    training, validation = (visitor.text(f"compare.losses.{key}") for key in ("training", "validation"))
    losses: list[tuple[int, float, str]] = [(step, loss, training) for step, loss, _ in points]
    losses += [(step, loss, validation) for step, loss in progress.validation]
    rates = [(step, rate) for step, _, rate in points]
    return over_steps(losses, ("step", "loss", "curve")), over_steps(rates, ("step", "rate"))


def duration(visitor: Visitor, seconds: float) -> str:
    """Seconds below two minutes, else minutes."""
    if seconds < 120:
        return visitor.text("compare.seconds", count=max(1, round(seconds)))
    return visitor.text("compare.minutes", count=round(seconds / 60))
