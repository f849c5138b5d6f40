"""python -m app index COLLECTION DIR: make a collection follow a folder."""

from pathlib import Path
from typing import TextIO

from app.errors import Language
from app.knowledge.collections import Owner
from app.knowledge.indexing import Progress
from app.knowledge.service import KnowledgeService
from app.texts import sentence


def index(
    service: KnowledgeService, owner: Owner, collection: str, folder: Path, out: TextIO, language: Language
) -> int:
    """Index the folder and tell how it went. Status 1 where a file failed; Ctrl-C stops and the next run goes on."""
    progress = Progress()
    steps = service.index_folder(owner, collection, folder)
    try:
        for progress in steps:
            if out.isatty():
                out.write(f"\r\033[K{progress.done}/{progress.total} {progress.current[-80:]}")
                out.flush()
    finally:
        steps.close()  # type: ignore[attr-defined]
        if out.isatty():
            out.write("\r\033[K")
    out.write(summary(progress, language) + "\n")
    for failure in progress.failed:
        reason = failure.reason_zh if language == "zh" else failure.reason_en
        out.write(f"  {failure.file}: {reason}\n")
    return 1 if progress.failed else 0


def summary(progress: Progress, language: Language) -> str:
    """One sentence about a run."""
    return sentence(
        language,
        "knowledge.summary",
        added=progress.added,
        updated=progress.updated,
        unchanged=progress.unchanged,
        removed=progress.removed,
        failed=len(progress.failed),
        chunks=progress.chunks,
    )
