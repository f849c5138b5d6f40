"""Parse and validate the body of POST /v1/chat/completions: every known field checked, unknown ones refused."""

from dataclasses import dataclass, replace

from app.api.chat_messages import read_messages
from app.api.request_body import Fields, parse_object
from app.api.sampling_fields import AnswerOptions, read_options
from app.models.interface import Message, Sampling

UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


@dataclass(frozen=True)
class ChatCompletionRequest:
    """A checked chat completion. `top_logprobs`: how many likely tokens are told beside each of the answer's; None
    for no log-probabilities at all."""

    model: str
    messages: tuple[Message, ...]
    options: AnswerOptions
    top_logprobs: int | None = None

    def sampling_for(self, context_tokens: int, choice: int = 0) -> Sampling:
        """How to draw this choice from a model of this context."""
        return sampling_for(self.options, context_tokens, choice)


def sampling_for(options: AnswerOptions, context_tokens: int, choice: int) -> Sampling:
    """Each choice has a seed of its own, so that they differ."""
    seed = options.sampling.seed
    return replace(
        options.sampling,
        max_new_tokens=options.max_tokens or context_tokens,
        seed=None if seed is None else (seed + choice) % 2**63,
    )


def read_chat_request(data: bytes, *, lenient: bool = False) -> ChatCompletionRequest:
    """Raises ApiError; fields that are not known are refused unless `lenient`."""
    given = Fields(parse_object(data))
    model = given.required_text("model")
    options = read_options(given, ("max_completion_tokens", "max_tokens"))
    for name, harmless in UNSUPPORTED.items():
        given.only(name, *harmless)
    top_logprobs = _top_logprobs(given)
    messages = read_messages(given.any("messages"), model)
    if not lenient:
        given.refuse_unknown()
    return ChatCompletionRequest(model, messages, options, top_logprobs)


def _top_logprobs(given: Fields) -> int | None:
    wanted, count = given.flag("logprobs"), given.whole("top_logprobs", 0, 20)
    if count and not wanted:
        raise given.wrong("top_logprobs", 'used together with "logprobs": true', '与 "logprobs": true 一起使用')
    return (count or 0) if wanted else None
