"""One choice of a chat completion: what its model must be able to do, its generation, log-probabilities, tool calls."""

from app.api.answering import Job, Scores
from app.api.chat_request import ChatCompletionRequest
from app.api.errors import NotByModel
from app.models.engine.grammar import SchemaTooLong, WrongSchema
from app.models.engine.response_calls import CallReader, call_reader
from app.models.engine.tool_calls import form_of
from app.models.interface import ChatModel, Generation, TextModel, TokenScoringModel


def chat_job(asked: ChatCompletionRequest, choice: int, visitor: str) -> Job:
    """Its errors name the parameter that the model cannot do."""

    def begin(model: ChatModel) -> Generation:
        _require(asked, model)
        form = form_of(model.chat_template) if asked.tools else None
        drawn = asked.sampling_for(model.context_tokens, choice, form, model.thinking == "always")
        try:
            return model.stream(asked.prompt, drawn, visitor=visitor)
        except (WrongSchema, SchemaTooLong) as error:
            error.about = "tools" if asked.tools else "response_format"
            raise

    def score(model: ChatModel, text: str) -> Scores | None:
        if asked.top_logprobs is None or not isinstance(model, TokenScoringModel):
            return None
        return tuple(model.score_tokens(asked.messages, text, asked.top_logprobs))

    def reader(model: ChatModel) -> CallReader | None:
        form = form_of(model.chat_template) if asked.tools else None
        if asked.tools is None or form is None:
            return None
        return call_reader(form, asked.tools)

    return Job(begin, score, reader=reader)


def _require(asked: ChatCompletionRequest, model: ChatModel) -> None:
    """Raises NotByModel."""
    constrained, form = isinstance(model, TextModel), form_of(model.chat_template)
    missing = {
        "logprobs": asked.top_logprobs is not None and not isinstance(model, TokenScoringModel),
        "response_format": asked.output is not None and not constrained,
        "tools": asked.tools is not None and (not constrained or form is None),
        "tool_choice": asked.tools is not None and asked.tools.choice != "auto" and form is not None and form.is_free,
        "reasoning_effort": bool(asked.thinking) and model.thinking == "never",
    }
    if form is None:
        missing |= {f"messages[{n}].role": turn["role"] == "tool" for n, turn in enumerate(asked.messages)}
    for name, is_missing in missing.items():
        if is_missing:
            raise NotByModel(param=name, model=asked.model)
