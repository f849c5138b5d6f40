"""Build the knowledge service from the settings."""

from app.knowledge.retrieve.embedders import PACKAGED, held_by, reranker_held_by
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Rights
from app.models.registry.registry import ModelRegistry
from app.paths import ASSETS
from app.settings import Settings

SAMPLES = ASSETS / "samples"
GUEST_DAYS = 1  # where strangers can come in
OWN_DAYS = 90  # where every visitor sits at this machine


def build_knowledge(settings: Settings, registry: ModelRegistry, *, start: bool = True) -> KnowledgeService:
    """With `start` the samples and whatever was interrupted are indexed in the background."""
    device = registry.placement.device
    service = KnowledgeService(
        registry,
        settings.data / "knowledge",
        lease_embedder=held_by(registry.hold, device),
        embedder=PACKAGED if settings.embedder == "auto" else settings.embedder,
        lease_reranker=reranker_held_by(registry.hold, settings.reranker, device) if settings.reranker else None,
        chroma_url=settings.chroma_url,
        rights=rights(settings),
        samples=SAMPLES,
    )
    if start:
        service.start()
    return service


def rights(settings: Settings) -> Rights:
    """Without logins and without strangers, whoever opens the page runs the server."""
    owners = frozenset(name.strip() for name in settings.folder_owners.split(",") if name.strip())
    own = settings.is_private
    return Rights(owners, guests_index_folders=own, guest_days=OWN_DAYS if own else GUEST_DAYS)
