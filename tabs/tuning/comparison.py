"""Compare two models side by side with receipts, vote, judge checkpoints, and the `/compare` endpoint."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.errors import BadInput
from app.finetune.comparing import Columns, CompareService, Receipt
from app.finetune.service import FinetuneService
from app.models.interface import Message, Registry, Sampling
from tabs.shell.generators import View, Views
from tabs.shell.page import Page, Visitor
from tabs.tuning import judging
from tabs.tuning.comparison_widgets import ComparisonView, draw_comparison
from tabs.tuning.judging import JudgingPanel
from tabs.tuning.training_widgets import Watch

Bubbles = list[dict[str, Any]]


@dataclass(frozen=True)
class Question:
    """What is asked of both columns, in the order of the widgets."""

    message: str
    left: str
    right: str
    left_chat: Bubbles
    right_chat: Bubbles
    system: str
    temperature: float
    max_new_tokens: float
    seed: float | None


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
) -> tuple[ComparisonView, JudgingPanel]:
    """Draw the panel, wire it, publish `/compare`. After each event in `shown` the run may look otherwise."""
    board = draw_comparison(page, registry)
    judgements = judging.build(page, trainer, board, watch, shown)
    _wire_board(page, service, board)
    page.api(partial(compare, service), "compare")
    return board, judgements


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
        page.on(event, partial(ask, service, board), asked, board.view)
        for event in (board.message.submit, board.send.click)
    ]
    buttons = [board.send, board.stop]
    page.on(board.stop.click, partial(settle, board), [], buttons, cancels=answers)
    page.on(board.clear.click, partial(clear, board), [], board.view, cancels=answers)
    for key, button in board.votes.items():
        page.on(button.click, partial(vote, service, key), [board.last, board.left_chat])
    page.download(board.export.click, partial(export, service))


def ask(service: CompareService, board: ComparisonView, visitor: Visitor, *inputs: Any) -> Views:
    """One question to both, each going on in its own conversation."""
    asked = Question(*inputs)
    messages = (
        _messages(asked.system, asked.left_chat, asked.message),
        _messages(asked.system, asked.right_chat, asked.message),
    )
    sampling = _sampling(
        asked.temperature, int(asked.max_new_tokens), int(asked.seed) if asked.seed is not None else None
    )
    bubble = {"role": "user", "content": asked.message}
    left, right = [*asked.left_chat, bubble], [*asked.right_chat, bubble]
    yield _columns(board, left, right) | {
        board.message: "",
        board.send: gr.update(visible=False),
        board.stop: gr.update(visible=True),
    }
    try:
        for columns in service.compare(asked.left, asked.right, messages, sampling, visitor=visitor.name):
            yield _answered(board, visitor, left, right, columns)
    except Exception:
        before = _columns(board, asked.left_chat, asked.right_chat) | {board.message: asked.message}
        yield before | settle(board, visitor)
        raise
    return settle(board, visitor)


def _answered(board: ComparisonView, visitor: Visitor, left: Bubbles, right: Bubbles, columns: Columns) -> View:
    view: View = {
        board.left_chat: [*left, _answer(columns.left)],
        board.right_chat: [*right, _answer(columns.right)],
    }
    if columns.receipts is not None:
        left_receipt, right_receipt = columns.receipts
        view |= {
            board.left_receipt: receipt_html(visitor, left_receipt),
            board.right_receipt: receipt_html(visitor, right_receipt),
            board.last: columns,
        }
    return view


def _columns(board: ComparisonView, left: Bubbles, right: Bubbles) -> dict[Any, Any]:
    """Two conversations whose last answers have no receipts yet."""
    return {
        board.left_chat: left,
        board.right_chat: right,
        board.left_receipt: "",
        board.right_receipt: "",
        board.last: None,
    }


def _answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text or "…"}


def settle(board: ComparisonView, _visitor: Visitor) -> dict[Any, Any]:
    """After an answer, however it ended."""
    return {board.send: gr.update(visible=True), board.stop: gr.update(visible=False)}


def clear(board: ComparisonView, visitor: Visitor) -> dict[Any, Any]:
    """Two new conversations."""
    return _columns(board, [], []) | {board.message: ""} | settle(board, visitor)


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
