"""Response templates: what a checkpoint's tokenizer says of how its model writes reasoning and tool calls.

transformers' `response_template` of tokenizer_config.json. It travels with the chat template, its counterpart.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from transformers.utils.chat_parsing.response_templates import load_response_template

log = logging.getLogger(__name__)
# They end an answer and are never part of it, so nothing can be read up to them.
ENDS = ("</s>", "<eos>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<turn|>", "<end_of_turn>")
REASONING = ("reasoning_content", "reasoning", "thinking")  # the names that templates have for it
_BLANKS = r"\s*"  # around the mark of a pattern
_PLAIN = re.compile(r"(?:[^\\.^$*+?{}\[\]|()]|\\[^\w\s])+")  # a pattern that matches one text alone
Field = Mapping[str, Any]


class ChatTemplate(str):
    """A chat template with the fields of the response template beside it."""

    fields: Mapping[str, Field]


def with_response(template: str, told: object) -> str:
    """The chat template with this response template, if it is one that transformers reads."""
    if told is None:
        return template
    try:
        load_response_template(told)  # type: ignore[arg-type]
    except Exception as error:  # for whatever its author has written
        log.warning("the response template of a tokenizer is left aside: %s", error)
        return template
    made = ChatTemplate(template)
    made.fields = told["fields"]  # type: ignore[index]
    return made


def field_of(template: str, *names: str) -> Field | None:
    """The first of these fields that the checkpoint's response template has."""
    fields = template.fields if isinstance(template, ChatTemplate) else {}
    return next((fields[name] for name in names if name in fields), None)


def mark_of(field: Field, side: str) -> str | None:
    """The text that stands at this side (open, close) of a field: "" without one, None where it is no single text."""
    mark = field.get(side)
    if mark is None:
        pattern = str(field.get(f"{side}_pattern", "")).removeprefix(_BLANKS).removesuffix(_BLANKS)
        if pattern and not _PLAIN.fullmatch(pattern):
            return None
        mark = re.sub(r"\\(.)", r"\1", pattern)
    marks = [one for one in ([mark] if isinstance(mark, str) else mark) if one not in ENDS]
    return marks[0] if len(marks) == 1 else None if marks else ""


def reasoning_marks(template: str) -> tuple[str, str] | None:
    """What stands before and after reasoning, as the response template has it."""
    field = field_of(template, *REASONING)
    if field is None:
        return None
    before, after = ((mark_of(field, side) or "").strip() for side in ("open", "close"))
    return (before, after) if before and after else None
