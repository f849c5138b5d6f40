"""Conversations in tokens: what a template refuses or loses is mended as in chat, and what is learnt is the answers."""

from typing import Any

import pytest

from app.finetune.data import Conversation
from app.finetune.encoding import IGNORED, TemplateUnfit, encode, question_tokens
from app.finetune.options import TrainOptions
from app.finetune.preview import check
from tests.finetune.byte_tokenizer import OPENED, PLAIN, byte_tokenizer, each

WITH_SYSTEM: Conversation = [{"system": "Be kind.", "input": "a", "output": "b c"}]
TEXTS = "(m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join)"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def learnt(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_a_template_that_reads_parts_is_given_parts() -> None:
    plain, parts = byte_tokenizer(), byte_tokenizer(each(PLAIN.replace("m.content", TEXTS)))
    assert encode(parts, WITH_SYSTEM, 512) == encode(plain, WITH_SYSTEM, 512)
    assert question_tokens(parts, "a") == question_tokens(plain, "a")
    assert learnt(parts, encode(parts, WITH_SYSTEM, 512)[0].labels) == "b c<|im_end|>"


@pytest.mark.parametrize(
    "template",
    [each("{% if m.role != 'system' %}" + PLAIN + "{% endif %}"), REFUSES + each(PLAIN)],
    ids=["drops", "refuses"],
)
def test_a_system_turn_that_a_template_does_not_take_goes_into_the_question(template: str) -> None:
    expected = encode(byte_tokenizer(), [{"input": "Be kind.\n\na", "output": "b c"}], 512)
    assert encode(byte_tokenizer(template), WITH_SYSTEM, 512) == expected


ROLES = (("user", "input"), ("assistant", "output"))
TWO: Conversation = [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]
# As Qwen3 writes its last answer, and Phi-3 the end of a text that nothing follows.
LAST = PLAIN.replace("m.content", "('<think></think>' if loop.last and m.role == 'assistant' else '') + m.content")
ENDED = each(PLAIN, "{{ '<|im_start|>assistant\n' if add_generation_prompt else eos_token }}")
FORCED = each(PLAIN, "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}")
SWITCH = "{{ '<think></think>' if enable_thinking is defined and not enable_thinking else '<think>\\n' }}"
SWITCHED = each(
    LAST,
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}" + SWITCH + "{% endif %}",
)


def asked(tokenizer: Any, conversation: Conversation, **variables: bool) -> str:
    """The prompt of the last question, as the template writes it."""
    messages = [{"role": role, "content": turn[key]} for turn in conversation for role, key in ROLES]  # type: ignore[literal-required]
    return str(tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False, **variables))


@pytest.mark.parametrize(
    ("template", "closing", "variables", "before", "after"),
    [
        (each(LAST), "", {}, "<think></think>", "<|im_end|>"),
        (ENDED, "", {}, "", "<|im_end|>\n<|im_end|>"),
        (FORCED, "\n</think>\n\n", {}, "", "<|im_end|>"),
        (SWITCHED, "", {"enable_thinking": False}, "", "<|im_end|>"),
    ],
    ids=["last answer", "end of text", "opens reasoning", "switch"],
)
def test_answers_are_learnt_one_by_one_where_earlier_turns_are_rewritten(
    template: str, closing: str, variables: dict[str, bool], before: str, after: str
) -> None:
    tokenizer = byte_tokenizer(template)
    rows = encode(tokenizer, TWO, 512)
    assert len(rows) == 2
    for number, row in enumerate(rows, 1):
        prompt = asked(tokenizer, TWO[:number], **variables) + closing
        said = f"{before}{TWO[number - 1]['output']}{after}"
        assert tokenizer.decode(row.input_ids).removesuffix("\n") == prompt + said
        assert learnt(tokenizer, row.labels) == said
        assert before or number > 1 or tokenizer.decode(question_tokens(tokenizer, "a")) == prompt
    unlearnt: Conversation = [{**TWO[0], "output_with_loss": False}, TWO[1]]
    assert encode(tokenizer, unlearnt, 512) == rows[1:]


def test_a_template_that_rewrites_nothing_makes_one_row() -> None:
    tokenizer = byte_tokenizer()
    [row] = encode(tokenizer, TWO, 512)
    assert learnt(tokenizer, row.labels) == "b<|im_end|>d<|im_end|>"


def test_an_answer_that_a_template_leaves_out_cannot_be_trained() -> None:
    with pytest.raises(TemplateUnfit):
        encode(byte_tokenizer("{{ messages[0].content }}" + OPENED), TWO, 512)


def test_the_check_counts_answers_that_are_learnt_apart() -> None:
    tokenizer = byte_tokenizer(each(LAST))
    found = check(tokenizer, "base", None, [TWO, TWO[:1]], TrainOptions(max_length=512))
    assert (found.rows, found.trained, len(found.tokens), len(found.shown)) == (2, 3, 3, 3)
    long: Conversation = [TWO[0], {"input": "c" * 600, "output": "d"}]
    found = check(tokenizer, "base", None, [long], TrainOptions(max_length=512))
    assert (found.trained, found.cut, found.lost) == (1, 1, 0)
