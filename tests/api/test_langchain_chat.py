"""LangChain's standard suites for chat models: the registry's model in `app.langchain`, and `ChatOpenAI` on /v1."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from app.langchain import RegistryChatModel
from tests.able_model import AbleModel
from tests.api.test_routes import serving
from tests.fakes import FakeRegistry

REGISTRY = FakeRegistry(AbleModel("tiny"), AbleModel("other"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Registered:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return RegistryChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"registry": REGISTRY, "name_in_registry": "tiny"}

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "other"


class TestUnits(Registered, ChatModelUnitTests):
    pass


@pytest.mark.anyio
class TestRegistryChatModel(Registered, ChatModelIntegrationTests):
    pass


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Pydantic serializer", "ignore:Received a Pydantic BaseModel V1")  # its own
class TestChatOpenAIOnV1(ChatModelIntegrationTests):
    @pytest.fixture(scope="class", autouse=True)
    def _served(self, request: pytest.FixtureRequest) -> Iterator[None]:
        with serving(REGISTRY) as url:
            request.cls.url = url
            yield

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        own = {"http_async_client": httpx.AsyncClient()}  # the one that it keeps belongs to an earlier test's loop
        return {"model": "tiny", "base_url": self.url, "api_key": "none", "stream_usage": True, "max_retries": 0, **own}

    @property
    def model_override_value(self) -> str:
        return "other"
