"""Widgets of the training panel: form of a new run, view of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from app.finetune.options import LIMITS, TrainOptions
from app.finetune.service import FinetuneService
from app.texts import sentence
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.page import Page

# The settings that have a field on the page, two in a row.
NUMBERS = (
    "steps",
    "epochs",
    "learning_rate",
    "rank",
    "alpha",
    "dropout",
    "batch",
    "accumulation",
    "max_length",
    "save_every",
    "evaluate_every",
    "validation",
    "patience",
    "seed",
)

FILE_TYPES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class FormValues:
    """What the form holds when a button is pressed, by the names of its widgets."""

    base: str
    source: str
    name: str
    language: str
    wording: str
    file: str | None
    set_name: str
    kept: str | None
    run_name: str
    questions: str
    general: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Form:
    """The left side: data and settings."""

    base: gr.Dropdown
    source: gr.Radio
    wizard: gr.Column
    name: gr.Textbox
    language: gr.Radio
    wording: gr.Textbox
    own: gr.Column
    file: gr.File
    set_name: gr.Textbox
    keep: gr.Button
    sets: gr.Column
    kept: gr.Dropdown
    forget: gr.Button
    run_name: gr.Textbox
    questions: gr.Textbox
    general: gr.Radio
    options: dict[str, Any]  # setting -> its widget
    config: gr.File  # a user's own XTuner configuration
    imported: gr.Markdown
    check: gr.Button
    start: gr.Button
    adapter: gr.File  # trained elsewhere
    repository: gr.Textbox  # that holds one
    bring_in: gr.Button
    preview: gr.Markdown
    rows: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        """What the handlers are given; `read` gives the values their names back."""
        return [*(getattr(self, key) for key in _PLAIN), *self.options.values()]

    def read(self, values: Sequence[Any]) -> FormValues:
        """The values of `inputs` by name."""
        known = dict(zip((*_PLAIN, *self.options), values, strict=True))
        plain = {key: known.pop(key) for key in _PLAIN}
        return FormValues(**plain, options=known)


_PLAIN = tuple(field.name for field in fields(FormValues) if field.name != "options")


@dataclass(frozen=True)
class Watch:
    """The right side: one run of the visitor's."""

    runs: gr.Dropdown
    status: gr.HTML
    curve: gr.LinePlot
    rates: gr.LinePlot
    samples: gr.HTML
    at_rest: gr.Column  # what can be done while nothing runs
    checkpoint: gr.Dropdown
    extra: gr.Number
    stop: gr.Button
    resume: gr.Button
    delete: gr.Button
    choose: gr.Button
    kind: gr.Radio
    pack: gr.Button
    packed: gr.HTML
    log: gr.Textbox
    config: gr.Code
    timer: gr.Timer
    shown: gr.State  # what of the run stands on the page

    @property
    def chosen(self) -> list[Any]:
        """Which run, and how much of it is on the page."""
        return [self.runs, self.shown]

    @property
    def view(self) -> list[Any]:
        """Everything that follows the run."""
        shown = [self.runs, self.status, self.curve, self.rates, self.samples, self.checkpoint, self.stop, self.at_rest]
        return [*shown, self.log, self.config, self.timer, self.shown]


def draw_form(page: Page, service: FinetuneService) -> Form:
    with gr.Column(elem_classes="tune-form"):
        bases, default = service.bases(""), service.registry.default_name
        usual = default if default in bases else bases[0] if bases else None
        base = gr.Dropdown(bases, value=usual)
        page.bind(base, label="compare.base")
        source = page.bind(gr.Radio(value="wizard"), label="compare.source", choices="compare.sources")
        with gr.Column() as wizard:
            name = page.bind(gr.Textbox(max_length=60), label="compare.name", placeholder="compare.name_hint")
            language = page.bind(gr.Radio(), label="compare.data_language", choices="compare.data_languages")
            page.bind(language, value=lambda shown: shown)
            wording = page.bind(gr.Textbox(lines=2), label="compare.wording", placeholder="compare.wording_hint")
        data = _draw_data(page)
        run_name = page.bind(gr.Textbox("assistant", max_length=40), label="compare.run_name")
        with page.bind(gr.Accordion(open=False), label="compare.settings"):
            general = page.bind(gr.Radio(value="own"), label="compare.general", choices="compare.generals")
            page.bind(general, info="compare.general_info")
            config = page.bind(gr.File(file_types=[".py"], height=90), label="compare.own_config")
            imported = gr.Markdown()
            options = _draw_options(page)
            questions = page.bind(gr.Textbox(lines=2), label="compare.questions")
        with gr.Row(elem_id="tune-buttons"):
            check = page.bind(gr.Button(), value="compare.check")
            start = page.bind(gr.Button(variant="primary", elem_id="tune-start"), value="compare.start")
        if (limits := service.limits).days:
            told = {"runs": limits.runs, "sets": limits.sets, "days": f"{limits.days:g}"}
            page.bind(gr.Markdown(), value=lambda language: sentence(language, "compare.kept_for", **told))
        preview = gr.Markdown()
        rows = gr.HTML(visible=False, elem_classes="tune-rows")
        with page.bind(gr.Accordion(open=False, elem_id="tune-bring-in"), label="compare.bring_in"):
            kinds = [".json", ".safetensors", ".zip", ".pth", ".pt"]
            adapter = page.bind(gr.File(file_count="multiple", file_types=kinds), label="compare.adapter_files")
            repository = page.bind(
                gr.Textbox(max_lines=1),
                label="compare.adapter_repository",
                placeholder="compare.adapter_repository_hint",
            )
            bring_in = page.bind(gr.Button(), value="compare.bring_in_now")
    return Form(
        base=base,
        source=source,
        wizard=wizard,
        name=name,
        language=language,
        wording=wording,
        **data,
        run_name=run_name,
        questions=questions,
        general=general,
        options=options,
        config=config,
        imported=imported,
        check=check,
        start=start,
        adapter=adapter,
        repository=repository,
        bring_in=bring_in,
        preview=preview,
        rows=rows,
    )


def _draw_data(page: Page) -> dict[str, Any]:
    """A file of one's own, which can be kept by a name, and what was kept."""
    with gr.Column(visible=False) as own:
        file = page.bind(gr.File(file_types=list(FILE_TYPES), elem_id="tune-file"), label="compare.file")
        with gr.Row():
            set_name = page.bind(gr.Textbox(max_length=60, scale=2), label="compare.set_name")
            keep = page.bind(gr.Button(min_width=120, scale=1), value="compare.set_keep")
    with gr.Column(visible=False) as sets:
        kept = page.bind(gr.Dropdown([], elem_id="tune-sets"), label="compare.sets")
        forget = page.bind(gr.Button(size="sm", elem_classes=ASKS_FIRST), value="compare.set_forget")
    return {
        "own": own,
        "file": file,
        "set_name": set_name,
        "keep": keep,
        "sets": sets,
        "kept": kept,
        "forget": forget,
    }


def _draw_options(page: Page) -> dict[str, Any]:
    normal = TrainOptions()
    drawn: dict[str, Any] = {
        "method": page.bind(gr.Radio(value=normal.method), label="compare.method", choices="compare.methods")
    }
    for pair in zip(NUMBERS[::2], NUMBERS[1::2], strict=True):
        with gr.Row():
            for key in pair:
                low, high = LIMITS[key]
                number = gr.Number(getattr(normal, key), minimum=low, maximum=high, min_width=110)
                drawn[key] = page.bind(number, label=f"compare.{key}")
    return drawn


def draw_watch(page: Page) -> Watch:
    with gr.Column(elem_classes="tune-watch"):
        runs = page.bind(gr.Dropdown([], elem_id="tune-runs"), label="compare.runs")
        status = gr.HTML(elem_id="tune-status")
        with gr.Row(elem_classes="tune-curves"):
            curve = gr.LinePlot(None, x="step", y="loss", color="curve", height=220, visible=False)
            rates = gr.LinePlot(None, x="step", y="rate", height=220, visible=False)
        page.bind(curve, x_title="compare.step", y_title="compare.loss", color_title="compare.curves_title")
        page.bind(rates, x_title="compare.step", y_title="compare.rate")
        samples = gr.HTML(elem_id="tune-samples")
        stop = page.bind(gr.Button(visible=False, elem_id="tune-stop"), value="compare.stop")
        with gr.Column(visible=False) as at_rest:
            with gr.Row():
                checkpoint = page.bind(gr.Dropdown([], min_width=120), label="compare.checkpoint_of_run")
                extra = page.bind(gr.Number(0, precision=0, minimum=0, min_width=100), label="compare.extra_steps")
                resume = page.bind(gr.Button(min_width=100), value="compare.resume")
            with gr.Row():
                kind = page.bind(gr.Radio(value="adapter", show_label=False, scale=3), choices="compare.downloads")
                pack = page.bind(gr.Button(min_width=110, scale=1), value="compare.download")
            packed = gr.HTML(visible=False, elem_id="tune-packed")
            with gr.Row():
                choose = page.bind(gr.Button(min_width=140), value="compare.choose")
                delete = page.bind(
                    gr.Button(variant="stop", min_width=140, elem_classes=ASKS_FIRST), value="compare.delete"
                )
        with page.bind(gr.Accordion(open=False), label="compare.log"):
            log = gr.Textbox(show_label=False, lines=10, max_lines=16, autoscroll=True, elem_classes="tune-log")
        with page.bind(gr.Accordion(open=False), label="compare.config"):
            config = gr.Code(language="python", show_label=False, max_lines=24)
        timer = gr.Timer(2.0, active=False)
    return Watch(
        runs=runs,
        status=status,
        curve=curve,
        rates=rates,
        samples=samples,
        at_rest=at_rest,
        checkpoint=checkpoint,
        extra=extra,
        stop=stop,
        resume=resume,
        delete=delete,
        choose=choose,
        kind=kind,
        pack=pack,
        packed=packed,
        log=log,
        config=config,
        timer=timer,
        shown=gr.State(),
    )
