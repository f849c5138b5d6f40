"""What a service may ask of a model. The engine, the remote server and the tests' fakes all keep to it."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NotRequired, Protocol, TypedDict

FinishReason = Literal["stop", "length", "cancelled"]


class Message(TypedDict):
    """One turn. `name` marks special system turns, such as InternLM's `<|interpreter|>`."""

    role: Literal["system", "user", "assistant", "environment"]
    content: str
    name: NotRequired[str]


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 are off; lengths in tokens."""

    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()
    keep_special_tokens: bool = False


class Generation(Protocol):
    """An answer on its way: iterate for pieces of text, each whole characters. Errors are raised by the iterator."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None
    dropped_turns: int

    def __iter__(self) -> Iterator[str]: ...

    def cancel(self) -> None:
        """End within one decoding step; the iterator then ends with finish_reason "cancelled"."""
        ...


class ChatModel(Protocol):
    """A model under lease."""

    name: str
    context_tokens: int
    chat_template: str

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
        how many; without it PromptTooLong is raised.
        """
        ...


class Registry(Protocol):
    """Where models come from: `with registry.lease(name) as model`. Names: `base` or `base+adapter`."""

    def lease(self, name: str) -> AbstractContextManager[ChatModel]:
        """Load if needed (one load for simultaneous callers) and hold; a leased model is not evicted."""
        ...
