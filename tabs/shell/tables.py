"""HTML tables: one look on every page; a wide one scrolls within its frame."""

from collections.abc import Sequence
from html import escape


def table_html(titles: Sequence[str], rows: Sequence[str], label: str = "") -> str:
    """`rows` are <tr> elements. With a `label` the frame has a height of its own and is scrolled by keyboard, too."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    head = f"<thead><tr>{head}</tr></thead>" if titles else ""
    long = f' long" role="region" tabindex="0" aria-label="{escape(label)}' if label else ""
    return f'<div class="table{long}"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'
