"""Parse and validate the body of POST /v1/chat/completions: every known field checked, unknown ones refused."""

from dataclasses import dataclass, replace
from typing import Any

from app.api.chat_messages import read_messages
from app.api.request_body import Fields
from app.api.sampling_fields import MOST_TOKENS, AnswerOptions, read_options
from app.api.structured_output import read_response_format
from app.api.tool_calling import read_tools
from app.models.engine.tool_calls import ToolForm, Tools
from app.models.interface import Message, OutputFormat, Sampling

# How many tokens a model may reason for.
EFFORTS = {"none": 0, "minimal": 256, "low": 1024, "medium": 2048, "high": 8192, "xhigh": 16_384, "max": 32_768}
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "verbosity": ("medium",),
}


@dataclass(frozen=True)
class ChatCompletionRequest:
    """A checked chat completion. `top_logprobs`: how many likely tokens are told beside each of the answer's; None
    for no log-probabilities at all."""

    model: str
    messages: tuple[Message, ...]
    options: AnswerOptions
    top_logprobs: int | None = None
    output: OutputFormat | None = None
    tools: Tools | None = None
    thinking: bool | None = None
    reasoning_tokens: int = Sampling.max_reasoning_tokens

    def sampling_for(
        self, context_tokens: int, choice: int = 0, form: ToolForm | None = None, always_thinks: bool = False
    ) -> Sampling:
        """How to draw this choice from a model of this context, which writes tool calls in this form."""
        output = self.output if self.tools is None or form is None else self.tools.output(form)
        undecided = output is not None and self.thinking is None  # whether it reasons must be known then
        return replace(
            sampling_for(self.options, context_tokens, choice),
            output=output,
            top_logprobs=self.top_logprobs,
            thinking=always_thinks if undecided else self.thinking,
            max_reasoning_tokens=self.reasoning_tokens,
            keep_special_tokens=self.tools is not None and form is not None and form.has_marks,
        )

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages; the first bears the tools."""
        if self.tools is None:
            return self.messages
        first: Message = {**self.messages[0], "tools": self.tools.definitions}
        return (first, *self.messages[1:])


def sampling_for(options: AnswerOptions, context_tokens: int, choice: int) -> Sampling:
    """Each choice has a seed of its own, so that they differ."""
    seed = options.sampling.seed
    return replace(
        options.sampling,
        max_new_tokens=options.max_tokens or min(context_tokens, MOST_TOKENS),
        seed=None if seed is None else (seed + choice) % 2**63,
    )


def read_chat_request(body: dict[str, Any], *, lenient: bool = False) -> ChatCompletionRequest:
    """Raises ApiError; fields that are not known are refused unless `lenient`."""
    given = Fields(body)
    model = given.required_text("model")
    options = read_options(given, ("max_completion_tokens", "max_tokens"), lenient=lenient)
    for name, harmless in UNSUPPORTED.items():
        given.only(name, *harmless)
    top_logprobs = _top_logprobs(given)
    output, tools = read_response_format(given), read_tools(given)
    thinking, reasoning_tokens = _thinking(given)
    if output is not None and tools is not None:
        raise given.wrong("response_format", "left out where tools may be called", "在使用 tools 时省略的")
    messages = read_messages(given.any("messages"), model)
    if not lenient:
        given.refuse_unknown()
    return ChatCompletionRequest(model, messages, options, top_logprobs, output, tools, thinking, reasoning_tokens)


def _thinking(given: Fields) -> tuple[bool | None, int]:
    """Whether the model shall reason before it answers, as OpenAI and vLLM say it, and for how many tokens at most."""
    effort = given.one_of("reasoning_effort", *EFFORTS)
    switches = given.any("chat_template_kwargs")
    if switches is not None:
        if not isinstance(switches, dict) or switches.keys() - {"enable_thinking"}:
            raise given.wrong("chat_template_kwargs", '{"enable_thinking": true or false}', ' {"enable_thinking": …}')
        return Fields(switches, "chat_template_kwargs.").flag("enable_thinking"), _most_reasoning(effort)
    return None if effort is None else effort != "none", _most_reasoning(effort)


def _most_reasoning(effort: str | None) -> int:
    return Sampling.max_reasoning_tokens if effort is None else EFFORTS[effort]


def _top_logprobs(given: Fields) -> int | None:
    wanted, count = given.flag("logprobs"), given.whole("top_logprobs", 0, 20)
    if count and not wanted:
        raise given.wrong("top_logprobs", 'used together with "logprobs": true', '与 "logprobs": true 一起使用')
    return (count or 0) if wanted else None
