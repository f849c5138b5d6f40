"""llama.cpp engine: fair admission of requests, restart of a crashed server process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from app.errors import EngineFailed
from app.models.backends.llama_cpp.admission import Admission
from app.models.backends.llama_cpp.client import LlamaClient
from app.models.backends.llama_cpp.gguf_file import GgufFacts
from app.models.backends.llama_cpp.process import ServerProcess
from app.models.backends.llama_cpp.prompts import GgufPrompts
from app.models.backends.llama_cpp.reasoning_limits import ReasoningLimits
from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.engine import Call, RemoteEngine
from app.models.backends.openai_server.errors import EngineAway
from app.models.backends.openai_server.replica import Chunk
from app.models.interface import SamplingDefaults

log = logging.getLogger(__name__)
Result = TypeVar("Result")
REQUEST_SECONDS = 600.0  # behind everyone else's long answers, or while a large file is read again
EXIT_SECONDS = 2.0  # a process that is killed loses its connections first and is gone a moment later


@dataclass(eq=False)
class LlamaCall(Call):
    """A request with whose it is, which its turn depends on, and how many tokens it has got."""

    visitor: str = ""
    limits: ReasoningLimits | None = None
    written: int = 0


class LlamaEngine(RemoteEngine):
    """Thread-safe. `server` is one that has not been started; `cache_mib` and `file_mib` are told by the file."""

    engine_name = "llama.cpp"
    sampling_defaults = SamplingDefaults()

    def __init__(
        self, server: ServerProcess, context_tokens: int, device: str, file_mib: int, cache_mib: int, facts: GgufFacts
    ) -> None:
        server.start()
        self.server = server
        self.name = server.name
        self._device = device
        super().__init__(EngineAddress(server.name, (server.url,), key=server.key), context_tokens)
        self._slots = Admission(server.options.slots, server.options.cache_tokens)
        self._reviving = asyncio.Lock()
        self.cache_mib = cache_mib
        self.facts = facts
        self.sampling_defaults = facts.sampling_defaults
        self.mib = max(file_mib, server.mib - cache_mib)
        try:
            self.prompts = GgufPrompts(self.name, facts.chat_template, self.render, self.tokens)
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> str:
        return self._device

    @property
    def reported_context(self) -> int:
        return self._usual_context

    def ahead_of(self, call: Call) -> int:
        return self._slots.ahead_of(call)

    @property
    def requests(self) -> int:
        """Answers that run or wait now."""
        return sum(isinstance(task, LlamaCall) for task in list(self._tasks))

    def render(self, asked: dict[str, Any]) -> str:
        """The text of a prompt, by the file's chat template. `asked`: messages, tools, chat_template_kwargs."""
        return self.run(self._asked(lambda replica: replica.render(asked)), REQUEST_SECONDS)

    def tokens(self, text: str, opening: bool = False, controls: bool = False) -> list[int]:
        """The tokens of a text; see `LlamaClient.tokens`."""
        asked = self._asked(lambda replica: replica.tokens(text, opening=opening, controls=controls))
        return self.run(asked, REQUEST_SECONDS)

    def text(self, tokens: list[int]) -> str:
        return self.run(self._asked(lambda replica: replica.text(tokens)), REQUEST_SECONDS)

    def logprobs(self, tokens: list[int], token: int, count: int) -> list[dict[str, Any]]:
        """What may follow the tokens, the most likely first, and `token` last; see `LlamaClient.logprobs`."""

        async def ask() -> list[dict[str, Any]]:
            async with self._slots.slot("", len(tokens), 1):
                return await self._asked(lambda replica: replica.logprobs(tokens, token, count))

        return self.run(ask(), REQUEST_SECONDS)

    def close(self) -> None:
        super().close()
        self.server.end()

    async def _open(self) -> list[Any]:
        return [LlamaClient(self.address, self.server.url)]

    async def _asked(self, ask: Callable[[LlamaClient], Awaitable[Result]]) -> Result:
        """Asked once more of a new process where the first has died. Raises EngineFailed."""
        replica = self._replica
        try:
            return await ask(replica)
        except EngineAway:
            await self._revive(replica)
        try:
            return await ask(self._replica)
        except EngineAway as error:
            raise EngineFailed from error

    async def _answer(self, call: Call) -> None:
        assert isinstance(call, LlamaCall)
        limits, body = call.limits, call.body
        prompt, longest = len(body["prompt"]), body["n_predict"]
        async with self._slots.slot(call.visitor, prompt, longest, call, lambda: call.written):
            if limits is None or not limits.is_open:
                await self._tell(call, body)
                return
            first = body | {"n_predict": min(max(1, limits.budget), body["n_predict"])}
            is_constrained = first.pop("grammar", None) is not None
            if is_constrained:  # nothing of the answer may come without its grammar
                first["stop"] = list(limits.marks.ends)
            text, tokens, finish = await self._tell(call, first)
            if (finish != "length" and not is_constrained) or tokens >= body["n_predict"]:
                return
            if closing := limits.closing(text):
                call.events.put(Chunk(closing))
            read = await self._asked(lambda replica: replica.tokens(text + closing, controls=True))
            rest = {"prompt": body["prompt"] + read, "n_predict": body["n_predict"] - tokens}
            await self._tell(call, body | rest, already=len(read))

    async def _tell(self, call: LlamaCall, body: dict[str, Any], already: int = 0) -> tuple[str, int, str | None]:
        """Hand on an answer, which has so many tokens already; (its text, its tokens, why it ended)."""
        for attempt in range(2):
            text, tokens, finish, replica = "", 0, None, self._replica
            try:
                async for chunk in replica.answer(body):
                    text, tokens, finish = text + chunk.text, chunk.completion_tokens, chunk.finish
                    call.written = already + tokens
                    call.events.put(replace(chunk, prompt_tokens=0, completion_tokens=call.written))
                return text, tokens, finish
            except EngineAway as error:
                await self._revive(replica)
                if text or attempt:
                    raise EngineFailed from error
        raise EngineFailed

    @property
    def _replica(self) -> LlamaClient:
        replica = self._replicas[0]
        assert isinstance(replica, LlamaClient)
        return replica

    async def _revive(self, failed: LlamaClient) -> None:
        """A new process if that of `failed` has died; those who come meanwhile wait for it."""
        async with self._reviving:
            if self._closing or failed is not self._replica:
                return
            if not await asyncio.to_thread(self.server.ends_within, EXIT_SECONDS):
                return
            log.error("llama.cpp's server for %s has ended and starts again: %s", self.name, self.server.log_tail())
            await asyncio.to_thread(self.server.start)
            before, self._replicas = self._replicas, await self._open()
            for replica in before:
                await replica.close()
