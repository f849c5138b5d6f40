"""Composition root: build all services once for the pages and the routes."""

import os
from dataclasses import dataclass

from app.access.client_address import ClientAddresses
from app.access.session_limits import SessionLimits
from app.agent.mcp_tools import McpTools, read_servers
from app.agent.service import AgentService
from app.chat.service import ChatService
from app.chat.storage import History
from app.evaluate.service import EvaluationService
from app.finetune.comparing import CompareService
from app.finetune.limits import FOR_STRANGERS, RunLimits
from app.finetune.service import FinetuneService
from app.knowledge.search_all import search_all
from app.knowledge.service import KnowledgeService
from app.knowledge.wiring import build_knowledge
from app.models.backends.openai_server.address import read_engines
from app.models.better_model import BetterModel
from app.models.catalog import known_models
from app.models.model_files import ModelFiles
from app.models.registry.metering import Allowance, Meter
from app.models.registry.placement import choose_placement
from app.models.registry.registry import ModelRegistry
from app.settings import Settings
from app.story.illustrating import IllustrationService
from app.story.picture_search import held_by as picture_embedder
from app.story.service import StoryService


@dataclass(frozen=True)
class Services:
    """Everything behind the page. A service that is None has no tab."""

    settings: Settings
    registry: ModelRegistry
    chat: ChatService
    history: History | None  # of logins; without them conversations stay in the browser
    story: StoryService
    illustration: IllustrationService
    knowledge: KnowledgeService | None
    agent: AgentService
    finetune: FinetuneService
    compare: CompareService
    evaluate: EvaluationService
    better: BetterModel | None  # None where people come in who are not of this machine
    files: ModelFiles | None
    sessions: SessionLimits
    upload_mib_per_hour: int

    def close(self) -> None:
        if self.knowledge is not None:
            self.knowledge.close()
        if self.history is not None:
            self.history.close()
        self.agent.close()
        self.finetune.close()
        self.registry.close()


def build_services(settings: Settings, *, with_knowledge: bool = True) -> Services:
    """Raises SettingsError, UnknownModel or NotAModel where the settings cannot be met.

    Only one process at a time may work with the document index: raises DataInUse.
    """
    engines = read_engines(settings.engine, os.environ, taken=known_models.names())
    placement, default_name = choose_placement(settings, known=engines)
    settings.data.mkdir(parents=True, exist_ok=True)
    addresses = ClientAddresses(watched=settings.for_strangers)
    meter = Meter(allowance(settings), log_prompts=settings.log_prompts, addresses=addresses)
    registry = ModelRegistry(
        placement,
        default_name,
        listed_only=not settings.is_private,
        private=not settings.is_private,
        meter=meter,
        engines=engines,
        engine_context=settings.engine_context,
    )
    files = ModelFiles(registry, settings.data)
    knowledge = build_knowledge(settings, registry) if with_knowledge else None
    documents = search_all(knowledge) if knowledge is not None else None
    agent = AgentService(
        registry, settings.data, documents=documents, servers=_agent_tools(settings), addresses=addresses
    )
    return Services(
        settings=settings,
        registry=registry,
        chat=ChatService(registry),
        history=History(settings.data / "chat" / "history.db", settings.history_mib) if settings.auth else None,
        story=StoryService(registry),
        illustration=IllustrationService(
            registry,
            picture_embedder(registry.hold, settings.picture_model, settings.caption_model, placement.device),
        ),
        knowledge=knowledge,
        agent=agent,
        finetune=FinetuneService(
            registry,
            settings.data,
            cuda=placement.device == "cuda",
            limits=FOR_STRANGERS if settings.for_strangers else RunLimits(),
            addresses=addresses,
        ).start(),
        compare=CompareService(registry, settings.data),
        evaluate=EvaluationService(registry, settings.data, on_the_page=not settings.for_strangers),
        better=BetterModel(registry) if settings.is_private and placement.lent is None else None,
        files=files if settings.is_private else None,
        sessions=SessionLimits(settings.sessions or (3 if settings.for_strangers else 20), addresses),
        upload_mib_per_hour=settings.upload_mib_per_hour or (300 if settings.for_strangers else 0),
    )


def _agent_tools(settings: Settings) -> McpTools | None:
    """The operator's tool servers; strangers may use them only where he says so."""
    servers = read_servers(settings.agent_tools)
    if not servers or (settings.for_strangers and not settings.agent_tools_public):
        return None
    return McpTools(servers, settings.data / "tools")


def allowance(settings: Settings) -> Allowance:
    """What one visitor may have. Whom a machine serves alone shares it with nobody."""
    strict, shared = settings.for_strangers, not settings.is_private
    return Allowance(
        requests_at_once=settings.requests_at_once or (2 if strict else 8 if shared else 0),
        tokens_per_minute=settings.tokens_per_minute or (20_000 if strict else 0),
    )
