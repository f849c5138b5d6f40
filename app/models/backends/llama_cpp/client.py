"""HTTP client for llama.cpp's native API: tokenize, apply-template, streamed completion of token ids."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from app.models.backends.openai_server.errors import EngineAway
from app.models.backends.openai_server.replica import Chunk, Replica

TOKENIZE_SECONDS = 60.0  # for what needs no slot, on a machine that is busy


class LlamaClient(Replica):
    """Lives on the event loop of its engine."""

    _plain_token: int | None = None

    async def prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        """The prompt's tokens by the file's own chat template. Raises EngineAway or what is refused."""
        shaped = await self._ask("apply-template", {"messages": messages}, TOKENIZE_SECONDS)
        return await self.tokens(str(shaped["prompt"]), opening=True)

    async def tokens(self, text: str, *, opening: bool = False) -> list[int]:
        """The text's tokens; with `opening` as the beginning of a prompt."""
        asked = {"content": text, "add_special": opening, "parse_special": opening}
        return list((await self._ask("tokenize", asked, TOKENIZE_SECONDS))["tokens"])

    async def text(self, tokens: list[int]) -> str:
        return str((await self._ask("detokenize", {"tokens": tokens}, TOKENIZE_SECONDS))["content"])

    async def top_logprobs(self, tokens: list[int], count: int) -> list[dict[str, Any]]:
        """What may follow the tokens, the most likely first: `id`, `bytes` and `logprob` of each, as the model has it.

        The server tells nothing where the token that it draws ends the answer or half a character, so it is made to
        draw a full stop; the told probabilities are those before that.
        """
        if self._plain_token is None:
            self._plain_token = (await self.tokens("."))[-1]
        forced = {"logit_bias": [[self._plain_token, 1000.0]], "temperature": 0}
        answer = await self._ask("completion", {"prompt": tokens, "n_predict": 1, "n_probs": count, **forced}, None)
        found: list[dict[str, Any]] = answer["completion_probabilities"][0]["top_logprobs"]
        return found

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
