"""Conversations in tokens: what a template refuses or loses is mended as in chat, and what is learnt is the answers."""

from typing import Any

import pytest

from app.finetune.data import Conversation
from app.finetune.encoding import IGNORED, encode, question_tokens
from tests.finetune.byte_tokenizer import PLAIN, byte_tokenizer, each

WITH_SYSTEM: Conversation = [{"system": "Be kind.", "input": "a", "output": "b c"}]
TEXTS = "(m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join)"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def learnt(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_a_template_that_reads_parts_is_given_parts() -> None:
    plain, parts = byte_tokenizer(), byte_tokenizer(each(PLAIN.replace("m.content", TEXTS)))
    assert encode(parts, WITH_SYSTEM, 512) == encode(plain, WITH_SYSTEM, 512)
    assert question_tokens(parts, "a") == question_tokens(plain, "a")
    assert learnt(parts, encode(parts, WITH_SYSTEM, 512).labels) == "b c<|im_end|>"


@pytest.mark.parametrize(
    "template",
    [each("{% if m.role != 'system' %}" + PLAIN + "{% endif %}"), REFUSES + each(PLAIN)],
    ids=["drops", "refuses"],
)
def test_a_system_turn_that_a_template_does_not_take_goes_into_the_question(template: str) -> None:
    expected = encode(byte_tokenizer(), [{"input": "Be kind.\n\na", "output": "b c"}], 512)
    assert encode(byte_tokenizer(template), WITH_SYSTEM, 512) == expected
