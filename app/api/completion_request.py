"""Parse and validate the body of POST /v1/completions: prompts as text or token ids, echo, log-probabilities."""

from dataclasses import dataclass
from typing import Any

from app.api.request_body import Fields, token_ids
from app.api.sampling_fields import AnswerOptions, read_options

USUAL_TOKENS = 16  # OpenAI's
MOST_PROMPTS = 64
MOST_CHARACTERS = 400_000
MOST_ANSWERS = 128
Prompt = str | tuple[int, ...]


@dataclass(frozen=True)
class CompletionRequest:
    """A checked text completion. `length` 0 generates nothing, as to score a prompt with `echo`; `top_logprobs` as in
    ChatCompletionRequest."""

    model: str
    prompts: tuple[Prompt, ...]
    options: AnswerOptions
    length: int
    echo: bool
    top_logprobs: int | None


def read_completion_request(body: dict[str, Any], *, lenient: bool = False) -> CompletionRequest:
    """Raises ApiError."""
    given = Fields(body)
    model = given.required_text("model")
    prompts = _prompts(given)
    echo = given.flag("echo")
    options = read_options(given, ("max_tokens",), least=0, lenient=lenient)
    length = USUAL_TOKENS if options.max_tokens is None and given.any("max_tokens") is None else options.max_tokens
    top_logprobs = given.whole("logprobs", 0, 20)
    given.only("suffix", "")
    given.only("best_of", 1, options.choices)
    if len(prompts) * options.choices > MOST_ANSWERS:
        raise given.wrong(
            "n", f"so small that there are at most {MOST_ANSWERS} answers", f"使回答总数不超过 {MOST_ANSWERS}"
        )
    if not lenient:
        given.refuse_unknown()
    most = 131_072 if length is None else length
    return CompletionRequest(model, prompts, options, most, echo, top_logprobs)


def _prompts(given: Fields) -> tuple[Prompt, ...]:
    value = given.any("prompt")
    entries = value if isinstance(value, list) and not token_ids(value) else [value]
    prompts = tuple(token_ids(entry) or entry for entry in entries)
    if not prompts or not all(isinstance(prompt, str | tuple) for prompt in prompts):
        raise given.wrong("prompt", "text, token ids, or a list of either", "文字、token 编号，或它们的列表")
    if len(prompts) > MOST_PROMPTS or sum(map(len, prompts)) > MOST_CHARACTERS:
        raise given.wrong(
            "prompt",
            f"at most {MOST_PROMPTS} prompts of {MOST_CHARACTERS} characters together",
            f"最多 {MOST_PROMPTS} 个提示，合计最多 {MOST_CHARACTERS} 个字符",
        )
    return prompts
