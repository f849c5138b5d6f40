"""The training half of the compare tab, and `/finetune`."""

import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from secrets import token_hex
from typing import Any

import gradio as gr
import pandas
from gradio.events import Dependency
from gradio.utils import get_upload_folder

from app.errors import BadInput, Language
from app.finetune.data import BadData, Conversation, check_rows, read_conversations
from app.finetune.finishing import KINDS
from app.finetune.options import TrainOptions
from app.finetune.runs import ACTIVE, Run, TrainingProgress
from app.finetune.service import FinetuneService
from app.finetune.wizard import general_questions, introduce, name_questions
from app.models.interface import Registry
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard
from tabs.tuning.training_widgets import NUMBERS, Form, Watch, draw_form, draw_watch

WATCH_SECONDS = 1.0
SHOWN_PROBLEMS = 10
MOST_QUESTIONS = 8


class NoFile(BadInput):
    zh = "请先选择一个 JSON 或 JSONL 文件。"
    en = "Choose a JSON or JSONL file first."


def build(page: Page, service: FinetuneService, registry: Registry) -> tuple[Watch, list[Dependency]]:
    """Draw the panel, wire it, publish `/finetune`. Returns the events after which the run is shown anew, too."""
    with gr.Row(elem_classes="tune"):
        form = draw_form(page, registry)
        watch = draw_watch(page)
    shown = _wire(page, service, form, watch)
    page.api(partial(finetune, service), "finetune")
    return watch, shown


def _wire(page: Page, service: FinetuneService, form: Form, watch: Watch) -> list[Dependency]:
    page.keep_upload(form.file)
    page.on(form.source.change, switch_source, [form.source], [form.wizard, form.file])
    page.on(form.check.click, partial(check, service), form.inputs, [form.preview, form.rows])
    started = page.on(form.start.click, partial(start, service), form.inputs, [watch.runs])
    follow = partial(show, service)
    # not at load: whose runs these are is known once the browser has said who it is
    events = (started.success, page.remembered.change, watch.runs.input, watch.timer.tick)
    shown = [page.on(event, follow, watch.chosen, watch.view) for event in events]
    page.on(watch.stop.click, partial(stop, service), [watch.runs], watch.view)
    resuming = [watch.runs, watch.checkpoint, watch.extra]
    shown.append(page.on(watch.resume.click, partial(resume, service), resuming, watch.view))
    shown.append(page.on(watch.delete.click, partial(delete, service), [watch.runs], watch.view))
    page.on(watch.choose.click, partial(choose, service), [watch.runs, watch.checkpoint])
    packing = [watch.runs, watch.checkpoint, watch.kind]
    page.on(
        watch.pack.click,
        partial(pack, page, service),
        packing,
        [watch.packed],
        show_progress="full",
        show_progress_on=watch.packed,
    )
    return shown


def finetune(
    service: FinetuneService,
    visitor: Visitor,
    name: str,
    base: str,
    data: Any,
    steps: int = 20,
    options: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train and tell how it goes. `data`: a file, or a list of rows in any of the three forms."""
    chosen = TrainOptions.read({**(options or {}), "steps": steps})
    run = service.submit(visitor.name, name, base, _uploaded(data), chosen, language=visitor.language)
    while True:
        status = service.status(visitor.name, run.id)
        yield status
        if status["state"] not in ("queued", *ACTIVE):
            return
        time.sleep(WATCH_SECONDS)


def _uploaded(data: Any) -> list[Conversation]:
    if isinstance(data, dict) and "path" in data:
        path = Path(str(data["path"])).resolve()
        # only what came in as an upload, never another file of this machine
        if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
            raise NoFile
        text = path.read_text(encoding="utf-8", errors="replace")
        discard([path])
        return read_conversations(text)
    if isinstance(data, list):
        return check_rows(enumerate(data, 1))
    raise NoFile


def switch_source(_visitor: Visitor, source: str) -> list[dict[str, Any]]:
    """Show what the chosen source needs."""
    return [gr.update(visible=source == "wizard"), gr.update(visible=source == "file")]


def _conversations(values: Sequence[Any]) -> tuple[list[Conversation], str, Language, tuple[int, ...]]:
    """The rows, the name to be learnt, the language of the samples, the numbers of the general rows."""
    _, source, name, language, wording, file = values[:6]
    spoken: Language = "zh" if language == "zh" else "en"
    if source == "wizard":
        made = introduce(name or "", spoken, wording or "")
        return made.conversations, made.name, spoken, made.general
    if not file:
        raise NoFile
    return read_conversations(Path(file).read_text(encoding="utf-8", errors="replace")), "", spoken, ()


def _options(values: Sequence[Any]) -> TrainOptions:
    return TrainOptions.read({"method": values[0], **dict(zip(NUMBERS, values[1:], strict=True))})


def _questions(typed: str, spoken: Language) -> list[str]:
    lines = [line.strip() for line in (typed or "").splitlines() if line.strip()]
    return lines[:MOST_QUESTIONS] or [name_questions(spoken)[0], general_questions(spoken)[0]]


def check(service: FinetuneService, visitor: Visitor, *values: Any) -> list[Any]:
    """Rows, tokens, time and room, and the first rows as the model reads them."""
    options = _options(values[9:])
    try:
        conversations = _conversations(values)[0]
        preview = service.preview(values[0], conversations, options)
    except BadData as fault:
        lines = [
            f"- {problem.row}: {problem.zh if visitor.language == 'zh' else problem.en}" for problem in fault.problems
        ]
        more = [f"- … {len(lines) - SHOWN_PROBLEMS}"] if len(lines) > SHOWN_PROBLEMS else []
        shown = "\n".join([fault.text(visitor.language), "", *lines[:SHOWN_PROBLEMS], *more])
        return [shown, gr.update(visible=False)]
    needs = service.estimate(values[0], preview, options)
    counted = visitor.text(
        "compare.preview", rows=preview.rows, tokens=sum(preview.tokens), longest=max(preview.tokens), cut=preview.cut
    )
    spent = duration(visitor, needs.seconds)
    needed = visitor.text("compare.estimate", memory=needs.memory_mib, disk=needs.disk_mib, time=spent)
    return [f"{counted}\n\n{needed}", gr.update(value="\n\n".join(preview.shown), visible=True)]


def start(service: FinetuneService, visitor: Visitor, *values: Any) -> dict[str, Any]:
    """Put a run into the queue and look at it."""
    conversations, identity, spoken, general = _conversations(values)
    run = service.submit(
        visitor.name,
        values[6] or "",
        values[0],
        conversations,
        _options(values[9:]),
        questions=_questions(values[7], spoken),
        language=spoken,
        identity=identity,
        own_answers=general if values[8] == "own" else (),
    )
    return gr.update(choices=_run_choices(service, visitor), value=run.id)


def stop(service: FinetuneService, visitor: Visitor, run_id: str) -> list[Any]:
    """Save and end the run."""
    service.stop(visitor.name, run_id)
    return show(service, visitor, run_id)


def resume(service: FinetuneService, visitor: Visitor, run_id: str, step: int | None, extra: float | None) -> list[Any]:
    """Go on from a checkpoint."""
    service.resume(visitor.name, run_id, int(step or 0), int(extra or 0))
    return show(service, visitor, run_id)


def delete(service: FinetuneService, visitor: Visitor, run_id: str) -> list[Any]:
    """Away with a run and its checkpoints."""
    service.delete(visitor.name, run_id)
    return show(service, visitor, None)


def choose(service: FinetuneService, visitor: Visitor, run_id: str, step: int | None) -> None:
    """Let the run's model be this checkpoint."""
    run = service.choose(visitor.name, run_id, int(step or 0))
    gr.Info(visitor.text("compare.chosen", model=run.model))


def pack(
    page: Page, service: FinetuneService, visitor: Visitor, run_id: str, step: int | None, kind: str
) -> dict[str, Any]:
    """A ZIP file of the adapter or the merged model."""
    archive = service.archive(visitor.name, run_id, int(step or 0), merged=kind == "merged")
    # gradio serves files of its own cache only, wherever the data folder is
    offered = Path(get_upload_folder()) / token_hex(16) / archive.name
    offered.parent.mkdir(parents=True)
    shutil.copy(archive, offered)
    page.uploads.keep(visitor.session, str(offered))
    return gr.update(value=str(offered), visible=True)


def show(service: FinetuneService, visitor: Visitor, run_id: str | None, shown: Any = None) -> Any:
    """The view of one run: the one that was chosen, else the newest. What is drawn stays while nothing happens."""
    runs = service.runs(visitor.name)
    run = next((run for run in runs if run.id == run_id), runs[0] if runs else None)
    choices = _run_choices(service, visitor)
    if run is None:
        hidden = gr.update(visible=False)
        empty = escape(visitor.text("compare.no_run"))
        listed = gr.update(choices=choices, value=None)
        view = [listed, f"<p>{empty}</p>", hidden, hidden, "", gr.skip(), hidden, hidden, "", ""]
        return [*view, gr.Timer(active=False), None]
    progress = service.store.progress(run.id)
    active = is_active(run)
    status = status_html(service, visitor, run, progress)
    # drawing takes the browser's processor, which may be the trainer's too
    now = (run.id, choices, status, len(progress.samples), progress.checkpoints)
    if shown == now:
        return gr.skip()
    steps = list(progress.checkpoints)
    same_steps = shown is not None and (shown[0], shown[-1]) == (run.id, progress.checkpoints)
    # one for each plot: gradio takes an update apart while it sends it
    curve, rates = (gr.update(value=curve_of(progress), visible=len(progress.curve) > 1) for _ in range(2))
    return [
        gr.update(choices=choices, value=run.id),
        status,
        curve,
        rates,
        samples_html(progress),
        # a choice of the visitor's stays until there is a newer checkpoint
        gr.skip() if same_steps else gr.update(choices=steps, value=steps[-1] if steps else None),
        gr.update(visible=active),
        gr.update(visible=not active),
        service.log(visitor.name, run.id),
        service.config(visitor.name, run.id),
        gr.Timer(active=active or run.judging or run.finishing),
        now,
    ]


def is_active(run: Run) -> bool:
    """Whether it runs or waits to."""
    return run.state in ACTIVE or run.state == "queued"


def _run_choices(service: FinetuneService, visitor: Visitor) -> list[tuple[str, str]]:
    return [
        (f"{run.name} · {visitor.text(f'compare.state.{run.state}')}", run.id) for run in service.runs(visitor.name)
    ]


def status_html(service: FinetuneService, visitor: Visitor, run: Run, progress: TrainingProgress) -> str:
    """State, step, loss, time left, and why it failed."""
    state = "stopping" if run.stopping and is_active(run) else run.state
    parts = [f"<b>{escape(visitor.text(f'compare.state.{state}'))}</b>"]
    if run.state == "queued" and (ahead := service.ahead_of(run)):
        parts.append(visitor.text("compare.ahead", count=ahead))
    parts.append(visitor.text("compare.progress", step=progress.step, total=run.total))
    if progress.curve:
        _, loss, rate = progress.curve[-1]
        parts += [f"{visitor.text('compare.loss')} {loss:.3f}", f"{visitor.text('compare.rate')} {rate:.1e}"]
    eta = service.status(visitor.name, run.id)["eta_s"]
    if eta is not None and run.state in ACTIVE:
        parts.append(visitor.text("compare.eta", time=duration(visitor, eta)))
    if run.judging and not is_active(run):
        judged = len(service.judgements(visitor.name, run.id))
        parts.append(visitor.text("compare.judging", done=judged, total=len(progress.checkpoints)))
    if run.finishing:
        done = len(service.finished(visitor.name, run.id))
        key = "compare.finish_progress" if service.is_measured_now(run) else "compare.finish_waits"
        parts.append(visitor.text(key, done=done, total=len(KINDS)))
    done = 100 * progress.step // max(1, run.total)
    bar = f'<div class="tune-bar"><i style="width:{done}%"></i></div>'
    kind = "tune-failed" if run.state == "failed" else "tune-waits"
    reason = f'<p class="{kind}">{escape(run.reason)}</p>' if run.reason else ""
    what_next = escape(visitor.text("compare.what_next"))
    model = f"<p>→ <code>{escape(run.model)}</code> · {what_next}</p>" if run.chosen else ""
    return f'<div class="tune-state {run.state}">{" · ".join(parts)}</div>{bar}{reason}{model}'


def samples_html(progress: TrainingProgress) -> str:
    """How the answer to each question changed."""
    questions = dict.fromkeys(sample.question for sample in progress.samples)
    blocks = []
    for question in questions:
        rows = "".join(
            f"<tr><td>{sample.step}</td><td>{escape(sample.answer)}</td></tr>"
            for sample in progress.samples
            if sample.question == question
        )
        blocks.append(f"<h4>{escape(question)}</h4><table>{rows}</table>")
    return "".join(blocks)


def curve_of(progress: TrainingProgress) -> pandas.DataFrame:
    """Step, loss and learning rate; at most about 500 points."""
    every = max(1, len(progress.curve) // 500)
    return pandas.DataFrame(progress.curve[::every], columns=["step", "loss", "rate"])


def duration(visitor: Visitor, seconds: float) -> str:
    """Seconds below two minutes, else minutes."""
    if seconds < 120:
        return visitor.text("compare.seconds", count=max(1, round(seconds)))
    return visitor.text("compare.minutes", count=round(seconds / 60))
