"""HTML of documents: files and their state, indexing progress, answers with marks, passages with marked words."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from html import escape
from typing import Any

from app.access.links import Links
from app.chat.conversations import Source
from app.errors import StudioError, Unexpected
from app.knowledge.answer.answering import Answer
from app.knowledge.answer.document_links import Place
from app.knowledge.answer.plain_answer import marked_text, plain_quotes, plain_verdicts
from app.knowledge.answer.verdicts import MARK
from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.ingest.jobs import Job
from app.knowledge.ingest.tables import as_read
from app.knowledge.retrieve.retrieval import Hit
from app.knowledge.retrieve.segmenting import content_words
from app.knowledge.store.collections import Owner
from app.knowledge.store.database import FileRecord
from tabs.shell.page import Visitor

SHOWN_FILES = 200
LONGEST_HINT = 200  # characters of a passage that the hint of a mark shows
ENTITIES = str.maketrans({each: f"&#{ord(each)};" for each in "[]$`*_\\~|!"})
HEADING_MARK = re.compile(r"^(<mark>)? {0,3}#{1,6}[ \t]+", re.MULTILINE)
MARKED = re.compile(r"\[\[(\d{1,3})\]\]")
ORDER = {"failed": 0, "waiting": 1, "ready": 2}
Spans = Sequence[tuple[int, int]]
CHOOSE_FILE = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-file]");
  if (button) trigger("select", {file: Number(button.dataset.file)});
})"""
LinkTo = Callable[[Hit, Spans], str]  # the address that opens a passage's document with these spans marked


def owner_of(visitor: Visitor) -> Owner:
    """Whose collections these are: the login's, else a guest's."""
    return Owner(visitor.name, guest=not visitor.login)


def said_by_model(answer: Answer) -> str:
    """The model's words as a turn of the conversation: without marks and notes."""
    return MARK.sub("", answer.text).strip()


def sources_of(answer: Answer, question: str, link: LinkTo) -> tuple[Source, ...]:
    """The passages of an answer as its page shows them, and as a browser may keep them."""
    asked = {word for word, _, _ in content_words(question)}
    sources = []
    for number, hit in enumerate(answer.hits, 1):
        passage = hit.passage
        quoted = [(rank, one.start, one.end) for rank, one in enumerate(answer.quotes) if one.number == number]
        spans = [(start, end) for _, start, end in quoted]
        spans += [span for verdict in answer.verdicts if verdict.passage == number for span in verdict.spans]
        words = [(start, end) for word, start, end in content_words(passage.content) if word in asked]
        sources.append(
            Source(
                file=passage.path,
                file_id=passage.file_id,
                start=passage.start,
                text=passage.content,
                page=passage.page,
                heading=" > ".join(passage.heading).replace("\\|", "|"),
                is_cited=bool(spans),
                spans=tuple(spans or words),
                quotes=tuple(quoted),
                link=link(hit, spans),
            )
        )
    return tuple(sources)


def relinked(links: Links[Place], owner: Owner, collection: str, sources: Sequence[Source]) -> tuple[Source, ...]:
    """Sources with links that open them now: those that a browser kept may have expired."""

    def place(source: Source) -> Place:
        spans = tuple((source.start + a, source.start + b) for a, b in source.spans) if source.is_cited else ()
        end = source.start + len(source.text)
        return Place(owner, collection, source.file_id, source.file, source.start, end, spans)

    return tuple(replace(source, link=links.make(place(source))) for source in sources)


def checked_text(visitor: Visitor, answer: Answer) -> str:
    """The model's words with a mark behind each sentence, once they are judged."""
    return marked_text(answer, visitor.language, "[[{number}]]") if answer.verdicts else ""


def answer_markdown(
    visitor: Visitor, text: str, checked: str, sources: Sequence[Source], name: str, cites: bool | None = None
) -> str:
    """An answer as its bubble shows it: quotes of the documents first, then what the model wrote, sentence by sentence.

    Marks are links to the source's card, whose id begins with `name`; the source is their hint. What cannot be relied
    on is folded: nothing of it is supported, or its model does not cite.
    """

    def chip(number: int) -> str:
        source = sources[number - 1]
        hint = literal(f"{source.file}: {' '.join(as_read(source.text).split())[:LONGEST_HINT]}").replace('"', "&quot;")
        return f'[{number}](#source-{name}-{number} "{hint}")'

    def chips(words: str) -> str:
        known = len(sources)
        return MARKED.sub(lambda mark: " " + chip(int(mark[1])) if 0 < int(mark[1]) <= known else "", words)

    quoted = [(rank, source.text[a:b], at) for at, source in enumerate(sources, 1) for rank, a, b in source.quotes]
    if not quoted:
        return chips(checked or text)
    quotes = [f"> {literal(' '.join(as_read(words).split()))} {chip(number)}" for _, words, number in sorted(quoted)]
    parts = [f"**{visitor.text('knowledge.from_documents')}**", *quotes]
    unsupported = bool(checked) and not MARKED.search(checked)
    if text and (unsupported or cites is False):
        title = escape(visitor.text(f"knowledge.from_model_{'unsupported' if unsupported else 'uncited'}"))
        parts.append(f"<details><summary>{title}</summary>\n\n{chips(checked or text)}\n\n</details>")
    elif text:
        parts += [f"**{visitor.text('knowledge.from_model')}**", chips(checked or text)]
    return "\n\n".join(parts)


def literal(text: str) -> str:
    """Text of a document inside Markdown, without any mark-up of its own, formulas included."""
    return escape(text, quote=False).translate(ENTITIES)


def plain_checks(answer: Answer) -> dict[str, Any]:
    """Quotes and verdicts as `/ask` gives them."""
    return {
        "quotes": [asdict(quote) for quote in plain_quotes(answer)],
        "verdicts": [asdict(verdict) for verdict in plain_verdicts(answer)],
    }


def sources_view(visitor: Visitor, sources: Sequence[Source], question: str, name: str, is_open: bool) -> str:
    """The passages an answer rests on, numbered as it cites them; an older answer's are folded under its question."""
    cards = [_source(visitor, f"{name}-{number}", source) for number, source in enumerate(sources, 1)]
    shown = "".join(cards) or f'<p class="nothing">{escape(visitor.text("knowledge.no_sources"))}</p>'
    if is_open:
        return f'<div class="sources">{shown}</div>'
    return f'<details class="sources"><summary>{escape(question)}</summary>{shown}</details>'


def highlighted(text: str, spans: Spans) -> str:
    """The text escaped, with the spans marked and without the signs of headings; spans may touch and overlap."""
    parts, at = [], 0
    for start, end in sorted(spans):
        start = max(start, at)
        if end > start:
            parts += [escape(text[at:start]), f"<mark>{escape(text[start:end])}</mark>"]
            at = end
    whole = as_read("".join([*parts, escape(text[at:])]).replace("</mark><mark>", ""))
    return HEADING_MARK.sub(lambda found: found[1] or "", whole)


def files_view(visitor: Visitor, files: Sequence[FileRecord], *, mine: bool = False) -> str:
    """The files of a collection, those with trouble first; one's own with a button that takes it out."""
    if not files:
        return f'<p class="nothing">{escape(visitor.text("knowledge.no_files"))}</p>'
    rows = []
    for file in sorted(files, key=lambda file: ORDER[file.state])[:SHOWN_FILES]:
        state = visitor.text(f"knowledge.states.{file.state}", passages=file.passages)
        reason = file.reason_zh if visitor.language == "zh" else file.reason_en
        reason = reason if file.state == "failed" else file.note_zh if visitor.language == "zh" else file.note_en
        told = f"<p>{escape(reason)}</p>" if reason else ""
        remove = escape(visitor.text("knowledge.remove", name=file.path))
        button = (
            f'<button type="button" class="asks-first" data-file="{file.id}" title="{remove}"><i>{remove}</i></button>'
        )
        rows.append(
            f'<li class="{file.state}"><b>{escape(file.path)}</b><span>{escape(state)}</span>'
            f"{button if mine else ''}{told}</li>"
        )
    more = len(files) - SHOWN_FILES
    if more > 0:
        rows.append(f"<li><i>{escape(visitor.text('knowledge.more_files', count=more))}</i></li>")
    return f'<ul class="files">{"".join(rows)}</ul>'


def progress_view(visitor: Visitor, job: Job | None, *, waits: bool = False) -> str:
    """How far the indexing is, or how it ended; `waits` while other files are read first."""
    if job is None:
        return ""
    if job.error is not None:
        error = job.error if isinstance(job.error, StudioError) else Unexpected()
        return f'<p class="failure">{escape(error.text(visitor.language))}</p>'
    progress = job.progress
    if job.ended:
        return f'<p class="nothing">{escape(summary(visitor, progress))}</p>'
    share = round(100 * progress.done / progress.total) if progress.total else 0
    name = escape(progress.current or visitor.text("knowledge.embedding"))
    if waits:
        name += f" · {visitor.text('knowledge.waits')}"
    return (
        f'<div class="bar"><i style="width:{share}%"></i></div>'
        f'<p class="nothing">{progress.done} / {progress.total} · {name}</p>'
    )


def summary(visitor: Visitor, progress: IndexingProgress) -> str:
    """One sentence about a run."""
    if progress.embedding:
        key = "embedded" if progress.embedding == "done" else "embedding_stopped"
        return visitor.text(f"knowledge.{key}", done=progress.done, total=progress.total)
    return visitor.text(
        "knowledge.summary",
        added=progress.added,
        updated=progress.updated,
        unchanged=progress.unchanged,
        removed=progress.removed,
        failed=len(progress.failed),
        chunks=progress.chunks,
    )


def plain_progress(visitor: Visitor, progress: IndexingProgress) -> dict[str, Any]:
    """A run as `/index` tells it."""
    return {
        "added": progress.added,
        "updated": progress.updated,
        "unchanged": progress.unchanged,
        "removed": progress.removed,
        "failed": [
            {"file": failure.file, "reason": failure.reason_zh if visitor.language == "zh" else failure.reason_en}
            for failure in progress.failed
        ],
        "chunks": progress.chunks,
        "notes": [{"file": name, "note": note[visitor.language == "en"]} for name, note in progress.notes],
    }


def _source(visitor: Visitor, name: str, source: Source) -> str:
    page = visitor.text("knowledge.page", number=source.page) if source.page is not None else ""
    place = " · ".join(filter(None, (source.file, page, source.heading)))
    kind = "cited" if source.is_cited else "found"
    number = name.rpartition("-")[2]
    return (
        f'<article class="source {kind}" id="source-{name}">'
        f"<header><b>{number}</b><span>{escape(place)}</span></header>"
        f"<p>{highlighted(source.text, source.spans)}</p>"
        f'<footer><a class="open-document" href="{escape(source.link)}" target="_blank" rel="noopener">'
        f"{escape(visitor.text('knowledge.open'))}</a></footer></article>"
    )
