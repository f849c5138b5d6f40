"""Sampling parameters of one answer, a checkpoint's own defaults, and the form that an answer must have.

A field that is None means the checkpoint's own (`ChatModel.sampling_defaults`, from its generation_config.json).
"""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class OutputFormat:
    """What an answer must look like: JSON that keeps to `schema` (JSON schema, as text).

    With `begin` such JSON stands between the marks: at once and nothing else where `required`, otherwise wherever the
    model writes `begin`; with `repeat` any number of times. Without `begin` and not `required` the whole answer is such
    JSON or text that does not begin like it. `lenient`, for JSON that its reader checks, passes over what no grammar
    can hold an answer to; otherwise such a schema is refused.
    """

    schema: str
    begin: str = ""
    end: str = ""
    required: bool = True
    repeat: bool = False
    lenient: bool = False


@dataclass(frozen=True)
class SamplingDefaults:
    """What a model samples with where nothing else was chosen; these values where its checkpoint says nothing either.

    Temperature 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 are off.
    """

    temperature: float = 0.2
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Sampling:
    """How one answer is sampled; None is the checkpoint's default, see SamplingDefaults. Lengths in tokens.

    `logit_bias` adds to the logits of token ids. `thinking`: without it, as is usual, a model answers at once, also one
    whose chat template has no switch; None leaves it to the checkpoint, for whoever shows reasoning; True wants it.
    Reasoning does not count against `max_new_tokens` but has a budget of its own; when `max_reasoning_tokens` are
    spent, or an answer would have no room behind it, the model is made to answer.

    `output` and `top_logprobs` (how many likely tokens are told beside each one, None for no log-probabilities) are for
    models that are a TextModel.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_new_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()
    keep_special_tokens: bool = False
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    thinking: bool | None = False
    max_reasoning_tokens: int = 2048
    output: OutputFormat | None = None
    top_logprobs: int | None = None

    def longest(self, can_think: bool) -> int:
        """Tokens that an answer of such a model may need, its reasoning included."""
        return self.max_new_tokens + (self.max_reasoning_tokens if can_think and self.thinking is not False else 0)

    def resolved(self, defaults: SamplingDefaults) -> SamplingDefaults:
        """Temperature, top-p and the others with no None among them."""
        names = (field.name for field in fields(defaults))
        chosen = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(defaults, **chosen)
