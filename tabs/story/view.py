"""Render a story as HTML: clickable paragraphs, token budget of the bible, warnings."""

from collections.abc import Sequence
from html import escape

from app.errors import Language
from app.models.interface import Registry
from app.story.bible import Pinned
from app.story.draft import Draft
from app.story.names import Stranger
from app.story.outline import HEADING
from app.story.telling import Writing
from app.texts import load_texts, sentence
from tabs.shell.model_choice import spoken
from tabs.shell.page import Visitor

# One listener for the component's life: paragraphs come and go inside it.
CLICKS = """
const choose = (event) => {
  const part = event.target.closest("[data-place], [data-example], [data-picture]");
  if (!part) return;
  const {place, picture, example} = part.dataset;
  trigger("select", {place: Number(place ?? -1), picture: Number(picture ?? -1), example: example ?? ""});
};
element.addEventListener("click", choose);
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(event); }
});
"""


def paper(draft: Draft, chosen: int | None = None, busy: bool = False) -> str:
    """The text; without `busy` each paragraph can be chosen."""
    return "".join(_paragraph(text, place, place == chosen, busy) for place, text in enumerate(draft.paragraphs))


def _paragraph(text: str, place: int, chosen: bool, busy: bool) -> str:
    if text.startswith(HEADING):
        return f"<h3>{escape(text.removeprefix(HEADING))}</h3>"
    shown = escape(text).replace("\n", "<br>")
    if busy:
        return f"<p>{shown}</p>"
    mark = ' class="chosen" aria-pressed="true"' if chosen else ' aria-pressed="false"'
    return f'<p role="button" tabindex="0" data-place="{place}"{mark}>{shown}</p>'


def welcome(registry: Registry, language: Language) -> str:
    """What stands on an empty page: a word of welcome and premises to begin with."""
    examples = "".join(
        f'<button type="button" data-example="{escape(text, quote=True)}">{escape(text)}</button>'
        for text in load_texts(spoken(registry.default_name, language))["story.examples"]
    )
    return (
        f'<div class="story-welcome"><h2>{escape(sentence(language, "story.welcome"))}</h2>'
        f"<p>{escape(sentence(language, 'story.welcome_more'))}</p><div>{examples}</div></div>"
    )


def budget(visitor: Visitor, pinned: Pinned) -> str:
    """A bar of the bible's tokens, and which lines found no room."""
    share = min(100, round(100 * pinned.tokens / max(1, pinned.budget)))
    said = visitor.text("story.budget", tokens=pinned.tokens, budget=pinned.budget)
    left = "".join(f"<li>{escape(row[:80])}</li>" for row in pinned.left_out)
    over = f"<p>{escape(visitor.text('story.left_out'))}</p><ul>{left}</ul>" if left else ""
    bar = f'<div class="bar"><i style="width:{share}%"></i></div>'
    return f'<div class="story-budget{" full" if left else ""}">{bar}<p>{said}</p>{over}</div>'


def warnings(visitor: Visitor, found: Sequence[Stranger]) -> str:
    """Names that contradict the bible."""
    rows = []
    for one in found:
        key = "story.looks_like" if one.looks_like else "story.unknown_name"
        rows.append(f"<li>{escape(visitor.text(key, name=one.name, count=one.count, known=one.looks_like))}</li>")
    return (
        f'<div class="story-names"><b>{visitor.text("story.names")}</b><ul>{"".join(rows)}</ul></div>' if rows else ""
    )


def status(visitor: Visitor, telling: Writing, wanted: int) -> str:
    """One line on how far a story is."""
    if telling.state == "loading":
        if telling.loading is None:
            return visitor.text("chat.loading", model=telling.model)
        return visitor.text("chat.loading_percent", model=telling.model, percent=int(telling.loading * 100))
    if telling.state == "queued":
        return visitor.text("chat.queued", ahead=telling.queue_ahead)
    if not telling.text:
        return visitor.text("chat.thinking")
    parts = [visitor.text("story.progress", length=telling.length, wanted=wanted)]
    if telling.removed:
        parts.append(visitor.text("story.removed", count=telling.removed))
    if telling.gave_up:
        parts.append(visitor.text("story.gave_up"))
    return " · ".join(parts)
