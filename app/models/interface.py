"""Protocols between the services and the models: chat models, messages, generations, the registry.

What they are told and tell, `sampling` and `ledger`, is had from here too.

Reasoning: a model that thinks before it answers yields `Part`s of two kinds. Iterating a `Generation` gives the answer
alone, so nothing that reads an answer ever reads reasoning; `parts()` gives both in their order, `reasoning` the
reasoning so far.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from app.models.ledger import Drift, DriftStep, Fit, Ledger, LedgerEntry
from app.models.sampling import OutputFormat, Sampling, SamplingDefaults

__all__ = [
    "ChatModel",
    "Drift",
    "DriftStep",
    "FinishReason",
    "Fit",
    "Generation",
    "InspectableModel",
    "Inspection",
    "Ledger",
    "LedgerEntry",
    "Message",
    "OutputFormat",
    "Part",
    "Registry",
    "ReportProgress",
    "Sampling",
    "SamplingDefaults",
    "ScoredGeneration",
    "TextModel",
    "Thinking",
    "TokenScore",
    "TokenScoringModel",
    "answer_pieces",
]

FinishReason = Literal["stop", "length", "cancelled"]
Thinking = Literal["never", "always", "optional"]
ReportProgress = Callable[[float, str], None]  # share done, 0 to 1, and what is being done


class Message(TypedDict):
    """One turn. `name` marks special system turns, such as InternLM's `<|interpreter|>`.

    `images` are picture files, as `pictures.as_jpeg` writes them; only multimodal models take them.
    `tools` of the first turn are the functions that the model may call, in OpenAI's form; `tool_calls` are those that
    an assistant's turn has called, their arguments as objects; a `tool` turn is the result of `tool_call_id`.
    The last turn may be an assistant's that is only `begun`: the answer goes on from its last character.
    """

    role: Literal["system", "user", "assistant", "environment", "tool"]
    content: str
    name: NotRequired[str]
    images: NotRequired[tuple[bytes, ...]]
    tools: NotRequired[tuple[dict[str, Any], ...]]
    tool_calls: NotRequired[tuple[dict[str, Any], ...]]
    tool_call_id: NotRequired[str]
    begun: NotRequired[bool]


@dataclass(frozen=True)
class Part:
    """A piece of what a model writes: of its answer, or of the reasoning before it."""

    text: str
    kind: Literal["answer", "reasoning"] = "answer"


class Generation(Protocol):
    """An answer on its way: iterate for pieces of the answer's text, each whole characters, or read `parts()`.

    Both read the same stream, once: use one of them. Errors are raised by the iterator. `completion_tokens` counts
    reasoning too.
    """

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...
    @property
    def reasoning(self) -> str:
        """The reasoning so far; empty for a model that does not think."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None: ...
    @property
    def dropped_turns(self) -> int: ...
    @property
    def queue_ahead(self) -> int:
        """Requests that must finish before this one starts; 0 once it runs."""
        ...

    def __iter__(self) -> Iterator[str]: ...

    def parts(self) -> Iterator[Part]:
        """Reasoning and answer as they come."""
        ...

    def cancel(self) -> None:
        """End within one decoding step; the iterator then ends with finish_reason "cancelled"."""
        ...


def answer_pieces(parts: Generator[Part, None, None]) -> Generator[str, None, None]:
    """The answer's text alone; closing it closes the parts."""
    with closing(parts):
        for part in parts:
            if part.kind == "answer":
                yield part.text


class ChatModel(Protocol):
    """A model under lease. `thinking`: whether it reasons before it answers, and whether that can be switched."""

    name: str
    context_tokens: int
    chat_template: str
    is_multimodal: bool
    sampling_defaults: SamplingDefaults
    thinking: Thinking

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt these messages make, the generation prompt included."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
    ) -> Generation:
        """Queue one request. `visitor` is whose fair share it counts against.

        With `drop_oldest` the oldest turns are left out until the prompt fits and `Generation.dropped_turns` says
        how many; without it PromptTooLong is raised. Pictures for a model that is not multimodal raise CannotSee.
        """
        ...


@dataclass(frozen=True)
class Inspection:
    """What a model really is, against the bare base with no adapter code in its way.

    `gap` is the largest difference of a logit after the prompt: 0 for the base. `agreement` is the share of the
    answer's tokens for which both have the same most likely token, each given the tokens before it; `explained`
    the share of the answer's tokens that are the model's own most likely token.
    """

    adapter: str | None
    sha256: str
    active_layers: int
    gap: float
    agreement: float
    explained: float


@runtime_checkable
class InspectableModel(Protocol):
    """A ChatModel whose weights are in this process."""

    def inspect(self, messages: Sequence[Message], answer: str) -> Inspection:
        """Read prompt and answer as this model and as the bare base, beside whatever else runs."""
        ...


@dataclass(frozen=True)
class TokenScore:
    """A token of an answer: its log-probability (natural, at temperature 1) given all before it, and the most likely
    tokens in its place with theirs."""

    text: str
    logprob: float
    top_logprobs: tuple[tuple[str, float], ...]


@runtime_checkable
class TokenScoringModel(Protocol):
    """A ChatModel that can tell how likely each token of an answer is."""

    def score_tokens(self, messages: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        """Read the answer once more, beside whatever else runs, with that many most likely tokens for each place."""
        ...


@runtime_checkable
class ScoredGeneration(Protocol):
    """A Generation that knows the log-probabilities of its tokens, where `Sampling.top_logprobs` asks for them."""

    @property
    def scores(self) -> "Sequence[TokenScore] | None":
        """One for each of the `completion_tokens` so far; None where the engine does not tell them as it goes."""
        ...


@runtime_checkable
class TextModel(Protocol):
    """A ChatModel that also continues and scores plain tokens, and keeps to an OutputFormat."""

    def encode(self, text: str) -> list[int]:
        """A prompt's tokens, with what the tokenizer puts before each text."""
        ...

    def token_text(self, token: int) -> str: ...

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "") -> Generation:
        """Continue a prompt without a chat template. Raises PromptTooLong."""
        ...

    def score_text(self, tokens: Sequence[int], top_logprobs: int, start: int = 1) -> "list[TokenScore]":
        """How likely each token from `start` on is, given those before it, or the beginning of a text.

        Raises PromptTooLong.
        """
        ...


class Registry(Protocol):
    """Where models come from: `with registry.lease(name) as model`. Names: `base` or `base+adapter`; a base may end
    in `:4bit`, `:8bit` or `:full` where that is not how the settings load it."""

    @property
    def default_name(self) -> str:
        """The model that is used where none is named."""
        ...

    def for_visitor(self, visitor: str) -> "Registry":
        """The same for one visitor: what others have tuned is not there. Whoever answers a visitor asks this one."""
        ...

    def names(self) -> list[str]:
        """What can be chosen in a model list, the loaded ones and their adapters first."""
        ...

    def public_name(self, name: str) -> str:
        """What lists and the ledger call it: of a model that is given by a path the last part, else the name itself."""
        ...

    def lease(self, name: str, *, full_weights: bool = False) -> AbstractContextManager[ChatModel]:
        """Load if needed (one load for simultaneous callers) and hold; a leased model is not evicted.

        A model chats by the fastest engine that has it here. With `full_weights` the name means its weights in this
        process: what compares, scores or inspects models asks for them, so that all run by one engine.
        """
        ...

    def load(self, name: str) -> None:
        """Start loading in the background; the ledger shows the progress. Raises what is known to fail."""
        ...

    def unload(self, name: str) -> None:
        """Give an idle model's memory back, or end its download. Raises ModelInUse while it is leased."""
        ...

    def is_multimodal(self, name: str) -> bool | None:
        """Whether the model takes pictures; None while that is unknown, as before a repository is fetched."""
        ...

    def sampling_defaults(self, name: str) -> SamplingDefaults:
        """What the model samples with where nothing is chosen; the usual values while its files are not here."""
        ...

    def thinking(self, name: str) -> Thinking | None:
        """Whether the model reasons before it answers, and whether that can be switched: an engine elsewhere is told of
        the switch. None while its files are not here."""
        ...

    def fit(self, name: str) -> Fit:
        """Whether `name` would fit beside what is leased now."""
        ...

    def check_drift(self, name: str) -> Generator[DriftStep | Drift, None, None]:
        """Compare a quantised model with itself at full precision, loading what is not loaded.

        The last value is the drift, which the ledger keeps. Closing the generator leaves off.
        """
        ...

    def ledger(self) -> Ledger: ...
