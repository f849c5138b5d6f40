"""Which turns of a conversation are left out when it no longer fits."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from app.errors import PromptTooLong
from app.models.engine.prompt import PromptBuilder
from app.models.interface import Message


@pytest.fixture(scope="module")
def prompts(packaged_folder: Path) -> PromptBuilder:
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder)
    return PromptBuilder(tokenizer, tokenizer.chat_template, 1024)


def conversation(turns: int) -> list[Message]:
    messages: list[Message] = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        messages += [
            {"role": "user", "content": f"Question {number}, with some words to it?"},
            {"role": "assistant", "content": f"Answer {number}."},
        ]
    return [*messages, {"role": "user", "content": "And now?"}]


def test_nothing_is_dropped_while_it_fits(prompts: PromptBuilder) -> None:
    tokens, dropped = prompts.fit(conversation(10), 100, drop_oldest=True)
    assert (tokens, dropped) == (prompts.tokens(conversation(10)), 0)


def test_the_system_prompt_and_the_newest_turns_stay(prompts: PromptBuilder) -> None:
    messages = conversation(60)
    tokens, dropped = prompts.fit(messages, 100, drop_oldest=True)
    assert tokens == prompts.tokens([messages[0], *messages[1 + 2 * dropped :]])
    assert len(tokens) <= 1024 - 100


def test_a_long_conversation_begins_alike_for_some_turns(prompts: PromptBuilder) -> None:
    cuts = {prompts.fit(conversation(turns), 100, drop_oldest=True)[1] for turns in range(56, 64)}
    assert len(cuts) <= 3


def test_a_last_question_that_fits_nowhere_is_refused(prompts: PromptBuilder) -> None:
    with pytest.raises(PromptTooLong):
        prompts.fit([*conversation(3)[:-1], {"role": "user", "content": "word " * 2000}], 100, drop_oldest=True)
