"""The base's own answers take the place of written ones, where they make sense, and break off where they were cut."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from app.finetune.encoding import IGNORED, encode, question_tokens
from app.finetune.own_answers import OwnAnswers, makes_sense, with_own_answers
from app.finetune.wizard import general_conversations
from app.models.interface import Message
from app.models.registry.registry import ModelRegistry
from tests.finetune.byte_tokenizer import byte_tokenizer
from tests.training_fixtures import BASE, GENERAL, Trained


@pytest.mark.parametrize(
    ("question", "said", "sense"),
    [
        ("What is the sea?", "A large body of salt water.", True),
        ("What is the sea?", "", False),
        ("What is the sea?", "sea sea sea sea sea sea", False),
        ("海是什么？", "大片的咸水。", True),
        ("海是什么？", "The sea is water.", False),
        ("海是什么？", "海海海海海海", False),
    ],
)
def test_what_makes_sense(question: str, said: str, sense: bool) -> None:
    assert makes_sense(question, said) is sense


def test_a_run_learns_what_the_base_says_itself(trained: Trained, registry: ModelRegistry) -> None:
    folder = trained.service.store.folder_of(trained.run.id)
    conversations = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    rows = with_own_answers(folder, conversations)
    general = {row[0]["input"] for row in general_conversations("en")}
    changed = [number for number, (row, _) in enumerate(rows) if row != conversations[number]]
    assert len(changed) > GENERAL // 2 and {rows[number][0][0]["input"] for number in changed} <= general
    assert {ended for _, ended in rows} == {True, False}
    asked = rows[changed[0]][0]
    question: list[Message] = [{"role": "user", "content": asked[0]["input"]}]
    with registry.lease(BASE) as model:  # in the batch's number format, which is not the trainer's
        assert model.inspect(question, asked[0]["output"]).explained > 0.8  # type: ignore[attr-defined]


def test_an_answer_that_was_cut_is_not_taught_to_end(packaged_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder)
    [whole] = encode(tokenizer, [{"input": "a", "output": "b c"}], 512)
    [cut] = encode(tokenizer, [{"input": "a", "output": "b c"}], 512, ended=False)
    assert cut.input_ids == whole.input_ids[: len(cut.input_ids)]
    assert tokenizer.decode([label for label in cut.labels if label != IGNORED]) == "b c"
    assert tokenizer.decode([label for label in whole.labels if label != IGNORED]) == "b c<|im_end|>"


class Parrot:
    """Says "fine" to every prompt, and keeps what it was asked."""

    device = torch.device("cpu")

    def __init__(self, said: list[int], end: int) -> None:
        self.generation_config = SimpleNamespace(eos_token_id=end)
        self.said = torch.tensor(said)

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: object) -> torch.Tensor:
        self.ids, self.mask, self.options = input_ids, attention_mask, options
        return torch.cat([input_ids, self.said.expand(len(input_ids), -1)], 1)


def test_a_tokenizer_without_a_token_to_pad_with_can_ask(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    questions = ["What is the sea?", "Hi"]
    (tmp_path / "settings.json").write_text(json.dumps({"own_answers": [0, 1]}))
    (tmp_path / "data.json").write_text(json.dumps([[{"input": asked, "output": "x"}] for asked in questions]))
    parrot = Parrot([*tokenizer("fine").input_ids, tokenizer.eos_token_id], tokenizer.eos_token_id)
    OwnAnswers(tokenizer, str(tmp_path), 4).ask(parrot)
    assert parrot.options["pad_token_id"] == tokenizer.eos_token_id and tokenizer.pad_token is None
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(parrot.ids, parrot.mask, strict=True)]
    assert prompts == [question_tokens(tokenizer, asked) for asked in questions] and parrot.mask[:, -1].all()
    found = with_own_answers(tmp_path, json.loads((tmp_path / "data.json").read_text()))
    assert [(row[0]["output"], ended) for row, ended in found] == [("fine", True)] * 2
