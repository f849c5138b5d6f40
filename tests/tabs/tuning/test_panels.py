"""The tuning page's handlers: what they draw, and what they leave as it is while nothing happens."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.errors import StudioError
from app.finetune.comparing import CompareService
from app.finetune.events import tell_phase
from app.finetune.judging import Judgement, save_judgements
from app.finetune.limits import FOR_STRANGERS
from app.finetune.runs import Run
from app.finetune.service import FinetuneService
from app.models.registry.registry import ModelRegistry
from tabs.shell.page import Page, Visitor
from tabs.tuning import datasets, judging, run_view, training
from tabs.tuning.comparison import ask
from tabs.tuning.comparison_widgets import ComparisonView, draw_comparison
from tabs.tuning.judging import JudgingPanel, draw_judging
from tabs.tuning.training_widgets import Form, Watch, draw_form, draw_watch
from tests.training_fixtures import BASE, BRIEF, ROWS

VISITOR = Visitor("en", "a", "session")


@pytest.fixture
def service(registry: ModelRegistry, tmp_path: Path) -> FinetuneService:
    return FinetuneService(registry, tmp_path)  # its threads are not started: what waits, waits


@pytest.fixture
def page() -> Page:
    with gr.Blocks() as blocks:
        return Page(blocks, "en", gr.State(), gr.BrowserState({}))


@pytest.fixture
def form(page: Page, service: FinetuneService) -> Form:
    with page.blocks:
        return draw_form(page, service)


@pytest.fixture
def watch(page: Page) -> Watch:
    with page.blocks:
        return draw_watch(page)


@pytest.fixture
def panels(page: Page, registry: ModelRegistry) -> tuple[ComparisonView, JudgingPanel]:
    with page.blocks:
        return draw_comparison(page, registry), draw_judging(page)


def submit(service: FinetuneService, name: str) -> Run:
    return service.submit("a", name, BASE, ROWS, BRIEF)


def tell(service: FinetuneService, run: Run, events: Sequence[dict[str, Any]]) -> None:
    """As the trainer writes them."""
    with (service.store.folder_of(run.id) / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"time": event["step"], **event}) + "\n" for event in events)


def fill(form: Form, **values: Any) -> list[Any]:
    """The form's inputs as first drawn, but for these."""
    drawn = [component.value for component in form.inputs]
    named = form.read(drawn)
    known = {**vars(named), **named.options, **values}
    return [known[key] for key in (*[key for key in vars(named) if key != "options"], *form.options)]


def test_a_stranger_is_told_how_long_trainings_are_kept(page: Page, registry: ModelRegistry, tmp_path: Path) -> None:
    with page.blocks:
        draw_form(page, FinetuneService(registry, tmp_path, limits=FOR_STRANGERS))
    shown = [block.value for block in page.blocks.blocks.values() if isinstance(block, gr.Markdown)]
    assert any("5 runs" in str(text) and "7 days after its end" in str(text) for text in shown)


def test_data_that_is_wrong_is_shown_row_by_row(service: FinetuneService, form: Form, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    values = fill(form, base=BASE, source="file", file=str(file))
    file.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n{broken\n', encoding="utf-8")
    assert "- 3:" in (shown := training.check(service, form, VISITOR, *values)[form.preview]) and "JSON" in shown
    file.write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    view = training.check(service, form, VISITOR, *values)
    assert view[form.preview].startswith("1 rows") and "at least 80 different ones" in view[form.preview]
    assert "&lt;|im_start|&gt;user\na&lt;|im_end|&gt;" in view[form.rows]["value"]
    assert "assistant\n</i>b&lt;|im_end|&gt;<i>" in view[form.rows]["value"]
    file.write_text('{"instruction": "a", "output": "b"}\n' * 10_001, encoding="utf-8")
    told = training.check(service, form, VISITOR, *values)[form.preview]
    assert "1 different rows, 10001 in all: 20 steps are enough" in told


def test_a_file_in_gbk_is_kept_checked_and_trained_on_as_it_was_read(
    service: FinetuneService, form: Form, tmp_path: Path
) -> None:
    rows = [{"conversation": [{"input": f"第{n}号泊位有船吗？", "output": f"第{n}号泊位没有船。"}]} for n in range(100)]
    file = tmp_path / "rows.json"
    file.write_bytes(json.dumps(rows, ensure_ascii=False).encode("gbk"))
    kept = datasets.keep(service, form, VISITOR, *fill(form, source="file", file=str(file), set_name="港口"))
    assert "港口" in kept[form.preview] and kept[form.kept]["value"] == "港口"
    values = fill(form, base=BASE, source="kept", kept="港口", run_name="harbour")
    checked = training.check(service, form, VISITOR, *values)
    assert "10 rows are held out" in checked[form.preview]
    assert "assistant\n</i>第0号泊位没有船。&lt;|im_end|&gt;<i>" in checked[form.rows]["value"]
    started = training.start(service, form, VISITOR, *values)["value"]
    trained = json.loads((service.store.folder_of(started) / "data.json").read_text(encoding="utf-8"))
    assert trained == [row["conversation"] for row in rows]


def test_the_page_draws_a_run_again_only_when_something_happened(service: FinetuneService, watch: Watch) -> None:
    run = submit(service, "drawn")
    first = run_view.show(service, watch, VISITOR, None, None)
    assert first[watch.runs]["value"] == run.id and "Queued" in first[watch.status]
    assert run_view.show(service, watch, VISITOR, run.id, first[watch.shown]) == gr.skip()
    service.store.change(run.id, state="starting")
    tell_phase(service.store.folder_of(run.id), "answers", 16, 26)
    starting = run_view.show(service, watch, VISITOR, run.id, first[watch.shown])[watch.status]
    assert "asking the base the general questions" in starting and "16 / 26" in starting
    tell(service, run, [{"kind": "started", "step": 0}])
    tell(service, run, [{"kind": "step", "step": step, "loss": 2.0, "rate": 1e-3} for step in (1, 2)])
    later = run_view.show(service, watch, VISITOR, run.id, first[watch.shown])
    assert list(later[watch.rates]["value"]["step"]) == ["1", "2"] == later[watch.rates]["sort"]
    assert "Step 2 of 6" in later[watch.status] and later[watch.curve]["visible"] and later[watch.rates]["visible"]
    tell(service, run, [{"kind": "step", "step": step, "loss": 2.0, "rate": 1e-3} for step in range(3, 22)])
    drawn = run_view.show(service, watch, VISITOR, run.id, later[watch.shown])
    assert set(drawn) == {watch.status, watch.shown, watch.curve, watch.rates}
    tell(service, run, [{"kind": "step", "step": 22, "loss": 2.0, "rate": 1e-3}])
    assert set(run_view.show(service, watch, VISITOR, run.id, drawn[watch.shown])) == {watch.status, watch.shown}
    tell(service, run, [{"kind": "validation", "step": 22, "loss": 1.5}])
    losses = run_view.show(service, watch, VISITOR, run.id, drawn[watch.shown])[watch.curve]["value"]
    assert losses[losses["curve"] == "validation"].to_numpy().tolist() == [[22, 1.5, "validation"]]
    assert sum(losses["curve"] == "training") == 22
    others = run_view.show(service, watch, Visitor("en", "b", "other"), run.id, first[watch.shown])
    assert others[watch.runs]["value"] is None


def test_curves_slider_and_both_columns_follow_the_judgements(
    service: FinetuneService, panels: tuple[ComparisonView, JudgingPanel]
) -> None:
    board, panel = panels
    run = submit(service, "curved")
    folder = service.store.folder_of(run.id)
    tell(service, run, [{"kind": "checkpoint", "step": step} for step in (2, 4)])
    service.store.change(run.id, state="finished", chosen=4, judging=True)
    save_judgements(folder, [Judgement(2, 0.5, 0.75, "")])
    view = judging.show_judgements(service, board, panel, VISITOR, run.id, None)
    assert view[panel.curves]["visible"] and not view[panel.slider]["visible"] and not view[panel.judge]["visible"]
    assert "1 of 2" in view[panel.note]
    assert (view[board.left]["value"], view[board.right]["value"]) == (BASE, run.model)
    save_judgements(folder, [Judgement(2, 0.5, 0.75, ""), Judgement(4, 1.0, 0.5, "")])
    service.store.change(run.id, judging=False)
    later = judging.show_judgements(service, board, panel, VISITOR, run.id, view[panel.shown])
    assert len(later[panel.curves]["value"]) == 4 and later[panel.slider]["visible"] and later[panel.judge]["visible"]
    assert later[panel.note] == "" and (later[panel.slider]["minimum"], later[panel.slider]["maximum"]) == (2, 4)
    assert board.left not in later
    assert panel.curves not in judging.show_judgements(service, board, panel, VISITOR, run.id, later[panel.shown])


def test_a_vote_needs_an_answer(registry: ModelRegistry, tmp_path: Path) -> None:
    from tabs.tuning.comparison import NothingAsked, vote

    with pytest.raises(NothingAsked):
        vote(CompareService(registry, tmp_path), "left", VISITOR, None, [])


def test_a_comparison_that_fails_gives_the_question_back(
    panels: tuple[ComparisonView, JudgingPanel], registry: ModelRegistry, tmp_path: Path
) -> None:
    board, before = panels[0], [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    service, inputs = CompareService(registry, tmp_path), ("Why?", BASE, "nothing", before, before, "", 0.0, 8, None)
    busy, *views = _views_until_error(ask(service, board, VISITOR, *inputs))
    assert busy[board.message] == "" and busy[board.stop]["visible"]
    assert views[-1][board.message] == "Why?" and views[-1][board.left_chat] == before
    assert views[-1][board.send]["visible"] and not views[-1][board.stop]["visible"]


def _views_until_error(views: Iterator[Any]) -> list[Any]:
    seen = []
    with pytest.raises(StudioError):
        for view in views:
            seen.append(view)
    return seen
