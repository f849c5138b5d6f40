"""Render evaluation results as HTML: a table of shares with their error range, and each question with its answer."""

from collections.abc import Sequence
from html import escape

from app.evaluate.marking import Mark
from app.evaluate.service import Row, Run
from tabs.evaluate.widgets import task_label
from tabs.shell.page import Visitor
from tabs.shell.tables import table_html

FIGURES = ("model", "task", "share", "range", "chance", "count", "seconds")
ANSWERS = ("question", "said", "expected", "right")


def results_html(visitor: Visitor, runs: Sequence[Run]) -> str:
    """Runs side by side, each model named with its run where there are several."""
    named = [(f"{row.model} ({run.id[4:13]})" if len(runs) > 1 else row.model, row) for run in runs for row in run.rows]
    if not named:
        return ""
    figures = table_html(_titles(visitor, FIGURES), [_figures(visitor, name, row) for name, row in named])
    several = len({name for name, _ in named}) > 1
    answers = [_answer(visitor, name if several else "", mark) for name, row in named for mark in row.marks]
    titles, title = _titles(visitor, ["model", *ANSWERS] if several else ANSWERS), visitor.text("evaluate.details")
    return (
        f'{figures}<h3>{escape(title)}</h3><label><input type="checkbox" id="evaluate-wrong">'
        f"{escape(visitor.text('evaluate.only_wrong'))}</label>{table_html(titles, answers, title)}"
    )


def _titles(visitor: Visitor, keys: Sequence[str]) -> list[str]:
    return [visitor.text(f"evaluate.{key}") for key in keys]


def _figures(visitor: Visitor, name: str, row: Row) -> str:
    low, high = row.error_range
    chance = f"{row.chance:.0%}" if row.chance else "–"
    cells = (f"{low:.0%} – {high:.0%}", chance, row.count, f"{row.seconds:.1f}")
    figures = "".join(f"<td>{cell}</td>" for cell in cells)
    label = escape(task_label(visitor.language, row.task))
    return f"<tr><th>{escape(name)}</th><td>{label}</td><td>{row.share:.0%}{_bar(row)}</td>{figures}</tr>"


def _bar(row: Row) -> str:
    """The share as a bar, a line over its 95 % range, a mark where chance is."""
    low, high = row.error_range
    chance = f'<u style="left:{row.chance:.1%}"></u>' if row.chance else ""
    line = f'<s style="left:{low:.1%};width:{high - low:.1%}"></s>'
    return f'<div class="share" aria-hidden="true"><i style="width:{row.share:.1%}"></i>{line}{chance}</div>'


def _answer(visitor: Visitor, name: str, mark: Mark) -> str:
    cells = (*([name] if name else []), mark.question, mark.said, mark.expected)
    told = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    word = escape(visitor.text(f"evaluate.{'is_right' if mark.right else 'is_wrong'}"))
    sign = f'<span role="img" aria-label="{word}" title="{word}">{"✓" if mark.right else "✗"}</span>'
    return f'<tr class="{"right" if mark.right else "wrong"}">{told}<td>{sign}</td></tr>'
