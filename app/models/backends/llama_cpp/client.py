"""HTTP client for llama.cpp's native API: tokenize, apply-template, streamed completion of token ids."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from app.models.backends.openai_server.errors import EngineAway
from app.models.backends.openai_server.replica import Chunk, Replica

WHOLE_VOCABULARY = 10**6
TOKENIZE_SECONDS = 60.0  # for what needs no slot, on a machine that is busy


class LlamaClient(Replica):
    """Lives on the event loop of its engine."""

    _plain_token: int | None = None

    async def render(self, asked: dict[str, Any]) -> str:
        """The prompt's text by the file's own chat template. Raises EngineAway or what is refused."""
        return str((await self._ask("apply-template", asked, TOKENIZE_SECONDS))["prompt"])

    async def tokens(self, text: str, *, opening: bool = False, controls: bool = False) -> list[int]:
        """The text's tokens; with `opening` as the beginning of a prompt, with `controls` control tokens as such."""
        asked = {"content": text, "add_special": opening, "parse_special": controls}
        return list((await self._ask("tokenize", asked, TOKENIZE_SECONDS))["tokens"])

    async def text(self, tokens: list[int]) -> str:
        return str((await self._ask("detokenize", {"tokens": tokens}, TOKENIZE_SECONDS))["content"])

    async def logprobs(self, tokens: list[int], token: int, count: int) -> list[dict[str, Any]]:
        """What may follow the tokens, the most likely first, and `token` last: `id`, `bytes` and `logprob` of each.

        The server tells the probability of the token that it draws, at whatever rank, so it is made to draw this one;
        what it tells are probabilities before that. It tells nothing where the drawn token ends the answer or half a
        character: then it draws a full stop and tells of the whole vocabulary.
        """
        for forced, most in ((token, count), (await self._full_stop(), WHOLE_VOCABULARY)):
            body = {"prompt": tokens, "n_predict": 1, "n_probs": most, "cache_prompt": True}
            answer = await self._ask("completion", {**body, "logit_bias": [[forced, 1000.0]], "temperature": 0}, None)
            told = answer.get("completion_probabilities") or []
            entries: list[dict[str, Any]] = [*told[0]["top_logprobs"], told[0]] if told else []
            own = next((entry for entry in entries if entry["id"] == token), None)
            if own is not None:
                return [*entries[: min(count, len(entries) - 1)], own]
        raise ValueError(f"the server tells nothing of token {token}")

    async def _full_stop(self) -> int:
        if self._plain_token is None:
            self._plain_token = (await self.tokens("."))[-1]
        return self._plain_token

    async def answer(self, body: dict[str, Any]) -> AsyncIterator[Chunk]:
        try:
            async with self._client.stream("POST", f"{self.url}/completion", json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise self._refusal(response, body)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        yield _chunk(json.loads(line[6:]))
        except (httpx.HTTPError, ValueError) as error:
            raise EngineAway(name=self.address.name, reason="") from error

    async def _ask(self, route: str, body: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        try:
            response = await self._client.post(f"{self.url}/{route}", json=body, timeout=seconds)
            if response.status_code != 200:
                raise self._refusal(response, body)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise EngineAway(name=self.address.name, reason="") from error
        return answer


def _chunk(event: dict[str, Any]) -> Chunk:
    if "error" in event:
        raise ValueError("an error in the stream")
    finish = ("length" if event.get("stop_type") == "limit" else "stop") if event["stop"] else None
    return Chunk(event["content"], finish, event.get("tokens_evaluated", 0), event.get("tokens_predicted", 0))
