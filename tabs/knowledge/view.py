"""HTML of the knowledge tab: files and their state, indexing progress, passages with marked words."""

from collections.abc import Sequence
from html import escape
from typing import Any

from app.errors import StudioError, Unexpected
from app.knowledge.answer.answering import Answer
from app.knowledge.answer.citations import marked
from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.ingest.jobs import Job
from app.knowledge.retrieve.retrieval import Hit
from app.knowledge.retrieve.segmenting import content_words
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner
from app.knowledge.store.database import FileRecord
from tabs.shell.page import Visitor

SHOWN_FILES = 200
ORDER = {"failed": 0, "waiting": 1, "ready": 2}
Spans = Sequence[tuple[int, int]]


def owner_of(visitor: Visitor) -> Owner:
    """Whose collections these are: the login's, else a guest's."""
    return Owner(visitor.name, guest=not visitor.login)


def answer_text(visitor: Visitor, answer: Answer) -> str:
    """The answer with a word behind each citation that its passage does not support."""
    return marked(answer.text, answer.citations, " " + visitor.text("knowledge.unsupported"))


def plain(hit: Hit) -> dict[str, Any]:
    """A passage as `/search` gives it."""
    passage = hit.passage
    return {
        "source": passage.path,
        "page": passage.page,
        "heading": " > ".join(passage.heading),
        "start": passage.start,
        "end": passage.end,
        "score": round(hit.score, 4),
        "text": passage.content,
    }


def sources_view(visitor: Visitor, service: KnowledgeService, collection: str, question: str, answer: Answer) -> str:
    """The passages an answer rests on, numbered as it cites them."""
    if not answer.hits:
        return f'<p class="nothing">{escape(visitor.text("knowledge.no_sources"))}</p>'
    cited = {number: [] for number in range(1, len(answer.hits) + 1)}  # type: dict[int, list[tuple[int, int]]]
    for citation in answer.citations:
        if citation.supported and citation.number in cited:
            cited[citation.number] += citation.spans
    asked = {word for word, _, _ in content_words(question)}
    cards = []
    for number, hit in enumerate(answer.hits, 1):
        words = [(start, end) for word, start, end in content_words(hit.passage.content) if word in asked]
        link = service.link(owner_of(visitor), collection, hit)
        cards.append(_source(visitor, number, hit, cited[number], words, link))
    return f'<div class="sources">{"".join(cards)}</div>'


def highlighted(text: str, spans: Spans) -> str:
    """The text escaped, with the spans marked; spans may touch and overlap."""
    parts, at = [], 0
    for start, end in sorted(spans):
        start = max(start, at)
        if end > start:
            parts += [escape(text[at:start]), f"<mark>{escape(text[start:end])}</mark>"]
            at = end
    return "".join([*parts, escape(text[at:])]).replace("</mark><mark>", "")


def files_view(visitor: Visitor, files: Sequence[FileRecord]) -> str:
    """The files of a collection, those with trouble first."""
    if not files:
        return f'<p class="nothing">{escape(visitor.text("knowledge.no_files"))}</p>'
    rows = []
    for file in sorted(files, key=lambda file: ORDER[file.state])[:SHOWN_FILES]:
        state = visitor.text(f"knowledge.states.{file.state}", passages=file.passages)
        reason = file.reason_zh if visitor.language == "zh" else file.reason_en
        reason = reason if file.state == "failed" else file.note_zh if visitor.language == "zh" else file.note_en
        told = f"<p>{escape(reason)}</p>" if reason else ""
        rows.append(f'<li class="{file.state}"><b>{escape(file.path)}</b><span>{escape(state)}</span>{told}</li>')
    more = len(files) - SHOWN_FILES
    if more > 0:
        rows.append(f"<li><i>{escape(visitor.text('knowledge.more_files', count=more))}</i></li>")
    return f'<ul class="files">{"".join(rows)}</ul>'


def progress_view(visitor: Visitor, job: Job | None) -> str:
    """How far the indexing is, or how it ended."""
    if job is None:
        return ""
    if job.error is not None:
        error = job.error if isinstance(job.error, StudioError) else Unexpected()
        return f'<p class="tune-failed">{escape(error.text(visitor.language))}</p>'
    progress = job.progress
    if job.ended:
        return f'<p class="nothing">{escape(summary(visitor, progress))}</p>'
    share = round(100 * progress.done / progress.total) if progress.total else 0
    name = escape(progress.current or visitor.text("knowledge.embedding"))
    return (
        f'<div class="tune-bar"><i style="width:{share}%"></i></div>'
        f'<p class="nothing">{progress.done} / {progress.total} · {name}</p>'
    )


def summary(visitor: Visitor, progress: IndexingProgress) -> str:
    """One sentence about a run."""
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


def _source(visitor: Visitor, number: int, hit: Hit, cited: Spans, asked: Spans, link: str) -> str:
    passage = hit.passage
    place = [passage.path]
    if passage.page is not None:
        place.append(visitor.text("knowledge.page", number=passage.page))
    if passage.heading:
        place.append(" > ".join(passage.heading))
    kind = "cited" if cited else "found"
    score = visitor.text("knowledge.score", score=f"{hit.score:.2f}")
    return (
        f'<article class="source {kind}"><header><b>{number}</b><span>{escape(" · ".join(place))}</span></header>'
        f"<p>{highlighted(passage.content, cited or asked)}</p>"
        f'<footer><span>{escape(score)}</span><a href="{escape(link)}" target="_blank" rel="noopener">'
        f"{escape(visitor.text('knowledge.open'))}</a></footer></article>"
    )
