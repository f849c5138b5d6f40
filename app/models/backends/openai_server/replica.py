"""HTTP client for one OpenAI-compatible server: health, models it lists, streamed chat completions."""

import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from app.errors import PromptTooLong, StudioError
from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.errors import (
    DiedMidway,
    EngineAway,
    EngineBusy,
    KeyRefused,
    RequestRefused,
    UnknownModelThere,
)

log = logging.getLogger(__name__)
# A long prompt on a busy engine may wait for minutes; a machine that vanished is told by the kernel's keepalive.
TIMEOUT = httpx.Timeout(connect=5, read=600, write=60, pool=None)
PROBE_SECONDS = 5.0
KEEPALIVE_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, option), value)
        for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, option)
    ),
]
# Not every engine takes these; one that refuses a request because of them is asked again without.
OPTIONAL_FIELDS = ("stream_options", "seed", "top_k", "skip_special_tokens", "top_p", "chat_template_kwargs")
TOO_LONG = re.compile(r"context[ _]length|context window|max_model_len|too long|maximum.{0,20}(tokens|length)", re.I)


@dataclass(frozen=True)
class Chunk:
    """What one event of a stream brings. Token counts are 0 where it brings none."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Replica:
    """Lives on the event loop of its engine."""

    def __init__(self, address: EngineAddress, url: str) -> None:
        self.address = address
        self.url = url
        self.live = 0  # answers under way
        self.healthy = True
        self.error: StudioError | None = None
        self.served: list[dict[str, Any]] = []
        self._refused: set[str] = set()
        self._tokenizes = True
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                socket_options=KEEPALIVE_OPTIONS, limits=httpx.Limits(max_keepalive_connections=0)
            ),
            headers=headers,
            timeout=TIMEOUT,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def probe(self) -> None:
        """Check whether it is healthy and what it serves."""
        try:
            response = await self._client.get(f"{self.url}/models", timeout=PROBE_SECONDS)
        except httpx.HTTPError as error:
            self.mark_unhealthy(EngineAway(name=self.address.name, reason=""), repr(error))
            return
        if response.status_code in (401, 403, 502, 503, 504):
            self.mark_unhealthy(self._refusal(response, {}), f"status {response.status_code}")
            return
        if not self.healthy:
            log.info("%s of engine %s is healthy again", self.url, self.address.name)
        self.healthy, self.error = True, None
        self.served = _listed(response)

    async def is_well(self) -> bool:
        """Whether the server answers and does not say that its engine is gone, which vLLM, LMDeploy and SGLang do."""
        try:
            response = await self._client.get(f"{self.url.removesuffix('/v1')}/health", timeout=PROBE_SECONDS)
        except httpx.HTTPError:
            return False
        return response.status_code < 500

    def mark_unhealthy(self, error: StudioError, why: str) -> None:
        if self.healthy:
            log.warning("%s of engine %s is left out: %s", self.url, self.address.name, why)
        self.healthy, self.error = False, error

    @property
    def model(self) -> str:
        """The name that requests carry: the configured one, else the first listed."""
        return self.address.model or (str(self.served[0].get("id", "")) if self.served else "")

    @property
    def context_tokens(self) -> int:
        """As the server tells it; 0 where it does not."""
        listed = next((m for m in self.served if m.get("id") == self.model), {})
        meta = listed.get("meta") if isinstance(listed.get("meta"), dict) else {}
        told = listed.get("max_model_len") or listed.get("context_length") or (meta or {}).get("n_ctx")
        return told if isinstance(told, int) and told > 0 else 0

    def adapters(self) -> list[str]:
        """LoRA adapters that the server lists as children of the model."""
        return [str(m["id"]) for m in self.served if m.get("parent") == self.model and m.get("id")]

    async def change_adapters(self, route: str, body: dict[str, str]) -> None:
        """Ask the server to load or to unload an adapter. Raises what was refused."""
        try:
            response = await self._client.post(f"{self.url.removesuffix('/v1')}{route}", json=body)
        except httpx.HTTPError as error:
            raise EngineAway(name=self.address.name, reason="") from error
        if response.status_code != 200:
            raise self._refusal(response, {})
        await self.probe()  # what it lists has changed

    async def tokenize(self, model: str, messages: list[dict[str, Any]]) -> int | None:
        """Tokens of the prompt by the server's own tokenizer; None where it has no such route."""
        if not self._tokenizes:
            return None
        body = {"model": model or self.model, "messages": messages, "add_generation_prompt": True}
        root = self.url.removesuffix("/v1")
        try:
            response = await self._client.post(f"{root}/tokenize", json=body, timeout=PROBE_SECONDS)
            count = response.json()["count"] if response.status_code == 200 else None
        except httpx.HTTPError:
            return None
        except (ValueError, KeyError, TypeError):
            count = None
        self._tokenizes = isinstance(count, int)
        return count if isinstance(count, int) else None

    async def answer(self, body: dict[str, Any]) -> AsyncIterator[Chunk]:
        """Stream one answer. Raises EngineAway before its first text, DiedMidway after it, or what was refused."""
        begun, without = False, set(self._refused)
        try:
            while True:
                asked = {key: value for key, value in body.items() if key not in without}
                asked["model"] = body["model"] or self.model
                async with self._client.stream("POST", f"{self.url}/chat/completions", json=asked) as response:
                    if response.status_code == 200:
                        self._refused |= without
                        async for chunk in self._chunks(response):
                            begun = begun or bool(chunk.text)
                            yield chunk
                        return
                    await response.aread()
                    dispensed = self._refused_fields(response, asked)
                    if not dispensed:
                        raise self._refusal(response, asked)
                    without |= dispensed
        except httpx.HTTPError as error:
            log.warning("an answer of %s (engine %s) broke off: %r", self.url, self.address.name, error)
            lost = DiedMidway if begun else EngineAway
            raise lost(name=self.address.name, reason="") from error

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[Chunk]:
        thinking, finish = False, None
        async for event in _events(response):
            if event.get("error"):
                raise httpx.RemoteProtocolError(f"error in the stream: {str(event['error'])[:300]}")
            text, thinking = _text(event, thinking)
            usage = event.get("usage") or {}
            choice = _choice(event)
            finish = choice.get("finish_reason") or finish
            counts = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
            yield Chunk(text, choice.get("finish_reason"), *counts)
        if finish is None:
            raise httpx.RemoteProtocolError("the stream ended without a finish reason")

    def _refused_fields(self, response: httpx.Response, asked: dict[str, Any]) -> set[str]:
        """Fields because of which the server refused a request that it may take without them."""
        if response.status_code not in (400, 422):
            return set()
        return {field for field in OPTIONAL_FIELDS if field in asked and field in response.text}

    def _refusal(self, response: httpx.Response, asked: dict[str, Any]) -> StudioError:
        name, status = self.address.name, response.status_code
        reason = _reason(response)
        log.warning("%s of engine %s answers %s: %s", self.url, name, status, reason)
        if status in (401, 403):
            return KeyRefused(name=name, reason=reason, variable=self.address.key_variable)
        if status in (429, 503):
            return EngineBusy(name=name, reason=reason)
        if status == 404:
            known = ", ".join(str(m.get("id")) for m in self.served) or "?"
            return UnknownModelThere(name=name, reason=reason, model=asked.get("model", ""), known=known)
        if status >= 500:
            return EngineAway(name=name, reason=reason)
        if TOO_LONG.search(reason):
            return PromptTooLong(tokens="?", limit=self.context_tokens or "?")
        return RequestRefused(name=name, reason=reason)


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event, up to [DONE]."""
    async for line in response.aiter_lines():
        field, _, data = line.partition(":")
        data = data.strip()
        if field != "data" or not data:
            continue
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise httpx.RemoteProtocolError("an event is no JSON") from error
        if not isinstance(event, dict):
            raise httpx.RemoteProtocolError("an event is no object")
        yield event


def _choice(event: dict[str, Any]) -> dict[str, Any]:
    choices: list[dict[str, Any]] = event.get("choices") or [{}]
    return choices[0]


def _text(event: dict[str, Any], thinking: bool) -> tuple[str, bool]:
    """The event's text, and whether it is still a thought: what a server tells apart, models mark by these tags."""
    delta = _choice(event).get("delta") or {}
    thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
    text = delta.get("content") or ""
    if thought:
        thought, thinking = ("" if thinking else "<think>\n") + thought, True
    if text and thinking:
        return f"{thought}\n</think>\n\n{text}", False
    return thought + text, thinking


def _listed(response: httpx.Response) -> list[dict[str, Any]]:
    try:
        data = response.json()["data"]
    except (ValueError, KeyError, TypeError):
        return []
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def _reason(response: httpx.Response) -> str:
    """The sentence in an error of any of the usual forms, cut to a readable length."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and body.get(key):
            body = body[key]
    return str(body)[:300]
