"""python -m app index COLLECTION DIR: make a collection follow a folder."""

from contextlib import closing
from pathlib import Path
from typing import TextIO

from app.errors import Language
from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import SERVER, Owner, Rights
from app.knowledge.wiring import build_knowledge
from app.models.registry.placement import choose_placement
from app.models.registry.registry import ModelRegistry
from app.settings import Settings
from app.terminal import terminal_language
from app.texts import sentence


def index(settings: Settings, collection: str, folder: Path, login: str, out: TextIO) -> int:
    """Open the data folder, index, and tell how it went. Raises DataInUse while a server works with the folder."""
    placement, default_name = choose_placement(settings)
    owner = Owner(login or SERVER)
    with (
        closing(ModelRegistry(placement, default_name)) as registry,
        closing(build_knowledge(settings, registry, start=False)) as service,
    ):
        service.rights = Rights(frozenset({owner.name}))
        return follow(service, owner, collection, folder, out, terminal_language())


def follow(
    service: KnowledgeService, owner: Owner, collection: str, folder: Path, out: TextIO, language: Language
) -> int:
    """Status 1 where a file failed; Ctrl-C stops, and the next run goes on where it was."""
    progress = IndexingProgress()
    steps = service.index_folder(owner, collection, folder)
    if owner.name == SERVER:
        service.share(owner, collection, True)
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
    for name, note in progress.notes:
        out.write(f"  {name}: {note[language == 'en']}\n")
    return 1 if progress.failed else 0


def summary(progress: IndexingProgress, language: Language) -> str:
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
