"""POST /v1/completions: raw text prompts, continued and scored without a chat template."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.api.answering import Ended, Job, Piece, Scores
from app.api.chat_request import sampling_for
from app.api.completion_request import CompletionRequest, Prompt
from app.api.errors import NotByModel
from app.api.responses import Choice, event, finish_reason, usage
from app.models.interface import ChatModel, Generation, TextModel, TokenScore

UNKNOWN = float("nan")  # the first token of all has nothing before it


def completion_jobs(asked: CompletionRequest, visitor: str) -> list[Job]:
    """One job for each choice: all choices of the first prompt, then those of the second, and so on."""
    return [_job(asked, prompt, choice, visitor) for prompt in asked.prompts for choice in range(asked.options.choices)]


def _job(asked: CompletionRequest, prompt: Prompt, choice: int, visitor: str) -> Job:
    def text_model(model: ChatModel) -> tuple[TextModel, list[int]]:
        if not isinstance(model, TextModel):
            raise NotByModel(param="prompt", model=asked.model)
        return model, list(prompt) if isinstance(prompt, tuple) else model.encode(prompt)

    def echo(model: ChatModel) -> tuple[str, Scores | None, int] | None:
        writer, tokens = text_model(model)
        if not asked.echo and asked.length:
            return None
        text = prompt if isinstance(prompt, str) else "".join(writer.token_text(token) for token in tokens)
        if not asked.echo:
            return "", None, len(tokens)
        if asked.top_logprobs is None or not tokens:
            return text, None, len(tokens)
        first = TokenScore(writer.token_text(tokens[0]), UNKNOWN, ())
        return text, (first, *writer.score_text(tokens, asked.top_logprobs)), len(tokens)

    def begin(model: ChatModel) -> Generation | None:
        if asked.length == 0:
            return None
        writer, tokens = text_model(model)
        drawn = sampling_for(asked.options, model.context_tokens, choice)
        drawn = replace(drawn, max_new_tokens=asked.length, top_logprobs=asked.top_logprobs)
        return writer.complete(tokens, drawn, visitor=visitor)

    def score(model: ChatModel, text: str) -> Scores | None:
        if asked.top_logprobs is None:
            return None
        writer, tokens = text_model(model)
        written = writer.encode(text)[len(writer.encode("")) :]
        return tuple(writer.score_text([*tokens, *written], asked.top_logprobs, len(tokens)))

    return Job(begin, score, prefix=echo)


class TextCompletion:
    """See responses.Completion."""

    def __init__(self, model: str, prompts: int = 1) -> None:
        self._head = {"id": f"cmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._prompts = prompts
        self._offsets: dict[int, int] = {}

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        told = [
            {
                "index": index,
                "text": choice.text,
                "logprobs": self._scores(index, choice.scores),
                "finish_reason": finish_reason(choice.ended),
            }
            for index, choice in enumerate(choices)
        ]
        counts = usage([choice.ended for choice in choices], self._prompts)
        return {**self._head, "object": "text_completion", "choices": told, "usage": counts}

    def opening(self, choice: int) -> bytes:  # noqa: ARG002  text completions have none
        return b""

    def piece(self, piece: Piece) -> bytes:
        return self._chunk(piece.choice, piece.text, None, piece.scores)

    def closing(self, ended: Ended) -> bytes:
        return self._chunk(ended.choice, "", finish_reason(ended), ended.scores or None)

    def usage(self, ended: Sequence[Ended]) -> bytes:
        counts = usage(ended, self._prompts)
        return event({**self._head, "object": "text_completion", "choices": [], "usage": counts})

    def _chunk(self, choice: int, text: str, finish: str | None, scores: Scores | None) -> bytes:
        told = {"index": choice, "text": text, "logprobs": self._scores(choice, scores), "finish_reason": finish}
        return event({**self._head, "object": "text_completion", "choices": [told]})

    def _scores(self, choice: int, scores: Sequence[TokenScore] | None) -> dict[str, Any] | None:
        if scores is None:
            return None
        offsets = []
        for score in scores:
            offsets.append(self._offsets.get(choice, 0))
            self._offsets[choice] = offsets[-1] + len(score.text)
        return {
            "tokens": [score.text for score in scores],
            "token_logprobs": [None if score.logprob != score.logprob else score.logprob for score in scores],
            "top_logprobs": [dict(reversed(score.top_logprobs)) or None for score in scores],
            "text_offset": offsets,
        }
