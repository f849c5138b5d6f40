"""Training panel: check data, start, watch, stop, resume, delete and download runs."""

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.errors import Language
from app.finetune.adapter_import import NoAdapter
from app.finetune.data import BadData
from app.finetune.options import LEAST_HELD_OUT, TrainOptions
from app.finetune.preview import Preview, ShownRow
from app.finetune.service import FinetuneService
from app.finetune.wizard import general_questions, name_questions
from app.finetune.xtuner_import import read_config
from tabs.shell.page import Page, Visitor
from tabs.tuning import datasets, endpoint
from tabs.tuning.run_view import duration, show
from tabs.tuning.training_data import training_data
from tabs.tuning.training_widgets import Form, Watch, draw_form, draw_watch

SHOWN_PROBLEMS = 10
MOST_QUESTIONS = 8


def build(page: Page, service: FinetuneService) -> tuple[Watch, list[Dependency]]:
    """Draw the panel, wire it, publish `/finetune`. Returns the events after which the run is shown anew, too."""
    with gr.Row(elem_classes="tune"):
        form = draw_form(page, service)
        watch = draw_watch(page)
    _wire_form(page, service, form)
    brought = [form.adapter, form.repository, form.base, form.run_name]
    started = [
        page.on(form.start.click, partial(start, service, form), form.inputs, [watch.runs]),
        page.on(form.bring_in.click, partial(bring_in, service), brought, [watch.runs], show_progress="full"),
    ]
    shown = _wire_watch(page, service, watch, started)
    page.api(partial(endpoint.finetune, service), "finetune")
    return watch, shown


def _wire_form(page: Page, service: FinetuneService, form: Form) -> None:
    page.keep_upload(form.file)
    page.on(form.source.change, partial(switch_source, form), [form.source], [form.wizard, form.own, form.sets])
    datasets.wire(page, service, form)
    page.keep_upload(form.config)
    page.keep_upload(form.adapter)
    page.on(form.base.focus, partial(list_bases, service), [], [form.base])
    page.on_arrival(partial(list_bases, service), [], [form.base])
    filled = [form.imported, form.base, form.questions, *form.options.values()]
    page.on(form.config.upload, partial(import_config, service, form), [form.config], filled)
    page.on(form.check.click, partial(check, service, form), form.inputs, [form.preview, form.rows])


def _wire_watch(page: Page, service: FinetuneService, watch: Watch, started: list[Dependency]) -> list[Dependency]:
    begun: list[Callable[..., Dependency]] = [event.success for event in started]
    events = (*begun, watch.runs.input, watch.timer.tick)
    shown = [page.on(event, partial(show, service, watch), watch.chosen, watch.view) for event in events]
    page.on(watch.stop.click, partial(stop, service, watch), [watch.runs], watch.view)
    resuming = [watch.runs, watch.checkpoint, watch.extra]
    shown.append(page.on(watch.resume.click, partial(resume, service, watch), resuming, watch.view))
    shown.append(page.on(watch.delete.click, partial(delete, service, watch), [watch.runs], watch.view))
    page.on(watch.choose.click, partial(choose, service), [watch.runs, watch.checkpoint])
    page.on(
        watch.pack.click,
        partial(pack, service),
        [watch.runs, watch.checkpoint, watch.kind],
        [watch.packed],
        show_progress="full",
        show_progress_on=watch.packed,
    )
    return shown


def switch_source(form: Form, _visitor: Visitor, source: str) -> dict[Any, Any]:
    """Show what the chosen source needs."""
    shown = {form.wizard: "wizard", form.own: "file", form.sets: "kept"}
    return {part: gr.update(visible=source == needed) for part, needed in shown.items()}


def list_bases(service: FinetuneService, visitor: Visitor) -> dict[str, Any]:
    """What this visitor can train now."""
    return gr.update(choices=service.bases(visitor.name))


def _questions(typed: str, spoken: Language) -> list[str]:
    lines = [line.strip() for line in (typed or "").splitlines() if line.strip()]
    return lines[:MOST_QUESTIONS] or [name_questions(spoken)[0], general_questions(spoken)[0]]


def import_config(service: FinetuneService, form: Form, visitor: Visitor, file: str | None) -> dict[Any, Any]:
    """Fill the form from a user's own XTuner configuration, which is read and never run."""
    if not file:
        return {form.imported: ""}
    found = read_config(Path(file).read_bytes())
    base = next(
        (name for name in service.bases(visitor.name) if name == Path(found.base).name or name == found.base), ""
    )
    lines = [f"- {visitor.text(f'compare.{key}')}: {value}" for key, value in found.options.items()]
    lines.append(f"- {visitor.text('compare.base')}: {found.base or '?'}")
    if found.base and not base:
        lines.append(f"- {visitor.text('compare.own_config_base')}")
    if found.data:
        lines.append(f"- {visitor.text('compare.own_config_data', path=found.data)}")
    if found.unread:
        unread = ", ".join(visitor.text(f"compare.{key}") for key in found.unread)
        lines.append(f"- {visitor.text('compare.own_config_unread', names=unread)}")
    if found.system:
        lines.append(f"- {visitor.text('compare.own_config_system')}")
    view: dict[Any, Any] = {form.options[key]: gr.update(value=value) for key, value in found.options.items()}
    view[form.imported] = "\n".join(lines)
    view[form.questions] = "\n".join(found.questions)
    return view | ({form.base: gr.update(value=base)} if base else {})


def check(service: FinetuneService, form: Form, visitor: Visitor, *inputs: Any) -> dict[Any, Any]:
    """Rows, tokens, time and room, and the first rows as the model reads them."""
    values = form.read(inputs)
    options = TrainOptions.read(values.options)
    try:
        data = training_data(service, visitor, values)
        preview = service.preview(values.base, data.conversations, options)
    except BadData as fault:
        return {form.preview: problems_text(visitor, fault), form.rows: gr.update(visible=False)}
    needs = service.estimate(values.base, preview, options)
    spent = duration(visitor, needs.seconds)
    needed = visitor.text("compare.estimate", memory=needs.memory_mib, disk=needs.disk_mib, time=spent)
    rows = "".join(row_html(visitor, row) for row in preview.shown)
    told = [note.text(visitor.language) for note in data.notes]
    return {
        form.preview: "\n\n".join([*told, *preview_lines(visitor, preview, options.validation), needed]),
        form.rows: gr.update(value=f"<div>{rows}</div>", visible=True),
    }


def preview_lines(visitor: Visitor, preview: Preview, share: float) -> list[str]:
    """Counts, then what is cut, left out or repeated."""
    lines = [
        visitor.text(
            "compare.preview",
            rows=preview.rows,
            tokens=sum(preview.tokens),
            longest=max(preview.tokens),
            cut=preview.cut,
        )
    ]
    if preview.lost:
        lines.append(visitor.text("compare.preview_lost", lost=preview.lost))
    if preview.is_repetition:
        lines.append(visitor.text("compare.preview_repetition", rows=preview.rows, different=preview.different))
    elif preview.different < preview.rows:
        lines.append(visitor.text("compare.preview_duplicates", duplicates=preview.rows - preview.different))
    if preview.held_out:
        lines.append(visitor.text("compare.preview_held_out", rows=len(preview.held_out)))
    elif share:
        lines.append(visitor.text("compare.preview_no_validation", least=round(LEAST_HELD_OUT / share)))
    return lines


def row_html(visitor: Visitor, row: ShownRow) -> str:
    """What is not learnt is grey."""
    pieces = (escape(text) if learnt else f"<i>{escape(text)}</i>" for text, learnt in row.pieces)
    more = f" … {escape(visitor.text('compare.preview_more', count=row.more))}" if row.more else ""
    return f"<pre>{''.join(pieces)}{more}</pre>"


def problems_text(visitor: Visitor, fault: BadData) -> str:
    """The first faulty rows, each with its reason."""
    lines = [f"- {problem.row}: {problem.zh if visitor.language == 'zh' else problem.en}" for problem in fault.problems]
    more = [f"- … {len(lines) - SHOWN_PROBLEMS}"] if len(lines) > SHOWN_PROBLEMS else []
    return "\n".join([fault.text(visitor.language), "", *lines[:SHOWN_PROBLEMS], *more])


def start(service: FinetuneService, form: Form, visitor: Visitor, *inputs: Any) -> dict[str, Any]:
    """Put a run into the queue and look at it."""
    values = form.read(inputs)
    data = training_data(service, visitor, values)
    if data.notes:
        gr.Info("\n".join(note.text(visitor.language) for note in data.notes))
    run = service.submit(
        visitor.name,
        values.run_name or "",
        values.base,
        data.conversations,
        TrainOptions.read(values.options),
        questions=_questions(values.questions, data.language),
        language=data.language,
        identity=data.identity,
        own_answers=data.general if values.general == "own" else (),
    )
    # `show`, which follows, gives the list its names
    return gr.update(choices=[(run.name, run.id)], value=run.id)


def bring_in(
    service: FinetuneService, visitor: Visitor, files: list[str] | None, repository: str, base: str, name: str
) -> dict[str, Any]:
    """An adapter trained elsewhere as a run of its own, which is judged and compared like any other."""
    if files:
        run = service.bring_in(visitor.name, name or "", base, [Path(file) for file in files], visitor.language)
    elif repository and repository.strip():
        run = service.bring_in_repository(visitor.name, name or "", base, repository, visitor.language)
    else:
        raise NoAdapter
    return gr.update(choices=[(run.name, run.id)], value=run.id)


def stop(service: FinetuneService, watch: Watch, visitor: Visitor, run_id: str) -> Any:
    """Save and end the run."""
    service.stop(visitor.name, run_id)
    return show(service, watch, visitor, run_id, None)


def resume(
    service: FinetuneService, watch: Watch, visitor: Visitor, run_id: str, step: int | None, extra: float | None
) -> Any:
    """Go on from a checkpoint."""
    service.resume(visitor.name, run_id, int(step or 0), int(extra or 0))
    return show(service, watch, visitor, run_id, None)


def delete(service: FinetuneService, watch: Watch, visitor: Visitor, run_id: str) -> Any:
    """Away with a run and its checkpoints."""
    service.delete(visitor.name, run_id)
    return show(service, watch, visitor, None, None)


def choose(service: FinetuneService, visitor: Visitor, run_id: str, step: int | None) -> None:
    """Let the run's model be this checkpoint."""
    run = service.choose(visitor.name, run_id, int(step or 0))
    gr.Info(visitor.text("compare.chosen", model=run.model))


def pack(service: FinetuneService, visitor: Visitor, run_id: str, step: int | None, kind: str) -> dict[str, Any]:
    """A link to a ZIP file of the adapter, the merged model, or a GGUF file."""
    made = service.download(visitor.name, run_id, int(step or 0), kind)
    link = f'<a href="{escape(service.links.make(made))}" download="{escape(made.name)}">{escape(made.name)}</a>'
    return gr.update(value=link, visible=True)
