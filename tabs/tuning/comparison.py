"""The comparing half of the compare tab, and `/compare`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from html import escape
from typing import Any

import gradio as gr
import pandas
from gradio.events import Dependency

from app.errors import BadInput
from app.finetune.comparing import Columns, CompareService, Receipt
from app.finetune.judging import Judgement
from app.finetune.service import FinetuneService
from app.models.interface import Message, Registry, Sampling
from tabs.shell.page import Page, Visitor
from tabs.tuning import training
from tabs.tuning.comparison_widgets import ComparisonView, Judging, draw_comparison, draw_judging
from tabs.tuning.training_widgets import Watch

Bubbles = list[dict[str, Any]]
# Which run's judgements stand on the page: its id, the language, its checkpoint, what was found.
Shown = tuple[str, str, int, tuple[Judgement, ...]] | None


class NothingAsked(BadInput):
    zh = "请先输入一个问题。"
    en = "Enter a question first."


def build(
    page: Page,
    service: CompareService,
    trainer: FinetuneService,
    registry: Registry,
    watch: Watch,
    shown: Sequence[Dependency],
) -> None:
    """Draw the panel, wire it, publish `/compare`. After each event in `shown` the run may look otherwise."""
    board = draw_comparison(page, registry)
    judging = draw_judging(page)
    _wire_board(page, service, board)
    _wire_judging(page, trainer, board, judging, watch, shown)
    page.api(partial(compare, service), "compare")


def compare(
    service: CompareService,
    visitor: Visitor,
    message: str,
    left: str,
    right: str,
    system: str = "",
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    seed: int | None = None,
) -> Iterator[list[Any]]:
    """Both answers so far, and the receipts with the last of them."""
    messages = _messages(system, [], message)
    sampling = _sampling(temperature, max_new_tokens, seed)
    for columns in service.compare(left, right, (messages, messages), sampling, visitor=visitor.name):
        receipts = [asdict(receipt) for receipt in columns.receipts] if columns.receipts else None
        yield [columns.left, columns.right, receipts]


def _wire_board(page: Page, service: CompareService, board: ComparisonView) -> None:
    asked = [board.message, board.left, board.right, board.left_chat, board.right_chat, *board.options]
    answers: list[Dependency] = [
        page.on(board.message.submit, partial(ask, service), asked, board.view),
        page.on(board.send.click, partial(ask, service), asked, board.view),
    ]
    page.on(board.stop.click, settle, [], [board.send, board.stop], cancels=answers)
    for answer in answers:
        page.on(answer.then, settle, [], [board.send, board.stop])
    page.on(board.clear.click, clear, [], board.view, cancels=answers)
    for key, button in board.votes.items():
        page.on(button.click, partial(vote, service, key), [board.last, board.left_chat])
    page.download(board.export.click, partial(export, service))


def _wire_judging(
    page: Page,
    trainer: FinetuneService,
    board: ComparisonView,
    judging: Judging,
    watch: Watch,
    shown: Sequence[Dependency],
) -> None:
    inputs, view = [watch.runs, judging.shown], [*judging.view, board.left, board.right]
    follow = partial(show_judgements, trainer)
    for event in shown:
        page.on(event.success, follow, inputs, view)
    judged = page.on(judging.judge.click, partial(judge, trainer), inputs, view)
    # which sets the clock going
    page.on(judged.success, partial(training.show, trainer), watch.chosen, watch.view)
    page.on(judging.slider.release, partial(pick, trainer), [watch.runs, judging.slider], [board.left, board.right])


def ask(
    service: CompareService,
    visitor: Visitor,
    message: str,
    left: str,
    right: str,
    left_chat: Bubbles,
    right_chat: Bubbles,
    system: str,
    temperature: float,
    max_new_tokens: float,
    seed: float | None,
) -> Iterator[list[Any]]:
    """One question to both, each going on in its own conversation."""
    if not message.strip():
        raise NothingAsked
    sampling = _sampling(temperature, int(max_new_tokens), int(seed) if seed is not None else None)
    asked = [[*chat, {"role": "user", "content": message}] for chat in (left_chat, right_chat)]
    busy = [gr.update(visible=False), gr.update(visible=True)]
    yield ["", *asked, "", "", None, *busy]
    messages = (_messages(system, left_chat, message), _messages(system, right_chat, message))
    for columns in service.compare(left, right, messages, sampling, visitor=visitor.name):
        said = [
            [*chat, {"role": "assistant", "content": text or "…"}]
            for chat, text in zip(asked, (columns.left, columns.right), strict=True)
        ]
        if columns.receipts is None:
            yield [gr.skip(), *said, *([gr.skip()] * 5)]
        else:
            receipts = [receipt_html(visitor, receipt) for receipt in columns.receipts]
            yield [gr.skip(), *said, *receipts, columns, gr.skip(), gr.skip()]


def settle(_visitor: Visitor) -> list[dict[str, Any]]:
    """After an answer, however it ended."""
    return [gr.update(visible=True), gr.update(visible=False)]


def clear(visitor: Visitor) -> list[Any]:
    """Two new conversations."""
    return ["", [], [], "", "", None, *settle(visitor)]


def vote(service: CompareService, choice: str, visitor: Visitor, columns: Columns | None, chat: Bubbles) -> None:
    """Keep which side was better."""
    if columns is None:
        raise NothingAsked
    questions = [text_of(bubble) for bubble in chat if bubble["role"] == "user"]
    service.vote(visitor.name, choice, columns, questions[-1] if questions else "")
    gr.Info(visitor.text("compare.voted"))


def export(service: CompareService, visitor: Visitor) -> tuple[str, str]:
    """The visitor's votes as JSON lines."""
    lines = [json.dumps(row, ensure_ascii=False) for row in service.votes(visitor.name)]
    return "votes.jsonl", "\n".join(lines) + "\n"


def judge(trainer: FinetuneService, visitor: Visitor, run_id: str | None, shown: Shown) -> list[Any]:
    """Judge all checkpoints of the chosen run once more; the curves follow."""
    trainer.judge(visitor.name, run_id or "")
    return show_judgements(trainer, visitor, run_id, shown)


def show_judgements(trainer: FinetuneService, visitor: Visitor, run_id: str | None, shown: Shown) -> list[Any]:
    """What is judged of the run so far; curves and slider stay as they are while nothing new is known.

    A run that has a model now is put beside its base.
    """
    run = next((run for run in trainer.runs(visitor.name) if run.id == run_id), None)
    if run is None:
        hidden = gr.update(visible=False)
        return [hidden, hidden, visitor.text("compare.nothing_judged"), hidden, None, gr.skip(), gr.skip()]
    found = trainer.judgements(visitor.name, run.id)
    total = len(trainer.progress(visitor.name, run.id).checkpoints)
    note = ""
    if run.judging:
        note = visitor.text("compare.judging", done=len(found), total=total)
    elif run.judging_reason:
        note = visitor.text("compare.not_judged", reason=run.judging_reason)
    elif not found:
        note = visitor.text("compare.nothing_judged")
    now = (run.id, visitor.language, run.chosen, tuple(found))
    curves = [gr.skip(), gr.skip()] if shown == now else _curves(visitor, found)
    again = gr.update(visible=bool(total) and not run.judging)
    models = [gr.skip(), gr.skip()]
    if run.chosen and (shown is None or (shown[0], shown[2]) != (run.id, run.chosen)):
        models = [gr.update(value=run.base), gr.update(value=run.model)]
    return [*curves, note, again, now, *models]


def pick(trainer: FinetuneService, visitor: Visitor, run_id: str, step: float) -> list[dict[str, Any]]:
    """Compare the base with the checkpoint nearest to the slider."""
    run = trainer.get(visitor.name, run_id)
    steps = trainer.progress(visitor.name, run_id).checkpoints
    nearest = min(steps, key=lambda known: abs(known - step))
    return [gr.update(value=run.base), gr.update(value=run.checkpoint_model(nearest))]


def _curves(visitor: Visitor, found: list[Judgement]) -> list[Any]:
    if not found:
        return [gr.update(visible=False), gr.update(visible=False)]
    rows = [(one.step, one.kept, visitor.text("compare.curves.kept")) for one in found]
    rows += [
        (one.step, one.identity, visitor.text("compare.curves.identity")) for one in found if one.identity is not None
    ]
    table = pandas.DataFrame(rows, columns=["step", "share", "curve"])
    steps = [one.step for one in found]
    pace = steps[1] - steps[0] if len(steps) > 1 else 1
    # a slider wants room between its ends, even while one checkpoint is judged
    last = max(steps[-1], steps[0] + pace)
    slider = gr.update(minimum=steps[0], maximum=last, step=pace, value=steps[-1], visible=len(steps) > 1)
    return [gr.update(value=table, visible=True), slider]


def _messages(system: str, chat: Bubbles, message: str) -> list[Message]:
    if not message.strip():
        raise NothingAsked
    messages: list[Message] = [{"role": "system", "content": system}] if system.strip() else []
    for bubble in chat:
        role: Any = bubble["role"]
        messages.append({"role": role, "content": text_of(bubble)})
    return [*messages, {"role": "user", "content": message}]


def text_of(bubble: dict[str, Any]) -> str:
    """A bubble's text; gradio gives it back as parts."""
    content = bubble["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _sampling(temperature: float, max_new_tokens: int, seed: int | None) -> Sampling:
    return Sampling(
        temperature=temperature,
        top_p=Sampling.top_p if temperature > 0 else 1.0,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )


def receipt_html(visitor: Visitor, receipt: Receipt) -> str:
    """The stamp under a column; red where the check failed."""
    nothing = visitor.text("compare.none")
    adapter = f"{receipt.adapter} · sha256 {receipt.sha256[:16]}…" if receipt.adapter else nothing
    drawn = f"T {receipt.temperature:g} · top-p {receipt.top_p:g} · {receipt.max_new_tokens}"
    rows = {
        "compare.receipt_base": f"{receipt.base} · {receipt.revision[:12]}",
        "compare.receipt_adapter": adapter,
        "compare.receipt_layers": str(receipt.active_layers),
        "compare.receipt_seed": nothing if receipt.seed is None else str(receipt.seed),
        "compare.receipt_sampling": drawn,
        "compare.receipt_gap": "?" if receipt.gap is None else f"{receipt.gap:.3g}",
    }
    cells = "".join(f"<dt>{escape(visitor.text(key))}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
    verdict = escape(visitor.text(f"compare.checks.{receipt.check}"))
    return f'<div class="receipt {receipt.check}"><b>{verdict}</b><dl>{cells}</dl></div>'
