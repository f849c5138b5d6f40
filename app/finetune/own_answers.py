"""Self-distillation: the base's own answers to the general questions, trained on to prevent forgetting.

Answers written by hand would do the reverse: they teach the base to speak as they do.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from app.files import write_json
from app.finetune.data import Conversation
from app.finetune.encoding import question_tokens
from app.finetune.events import tell_phase
from app.texts import has_chinese

FILE = "own_answers.json"
BATCH = 16
LONGEST = 48  # tokens


@dataclass(frozen=True)
class OwnAnswer:
    """`ended` is false where the answer was cut at the longest length: then its end is not learnt."""

    row: int
    output: str
    ended: bool


class OwnAnswers:
    """Asks a base the questions of the rows that the run's settings name; once a run, kept in its folder."""

    def __init__(self, tokenizer: Any, run_folder: str, max_new_tokens: int) -> None:
        self.tokenizer, self.folder, self.max_new_tokens = tokenizer, Path(run_folder), max_new_tokens

    def ask(self, model: Any) -> None:
        """`model` is the bare base, before any adapter."""
        settings = json.loads((self.folder / "settings.json").read_text(encoding="utf-8"))
        rows: list[int] = settings.get("own_answers", [])
        if not rows or (self.folder / FILE).exists():
            return
        conversations: list[Conversation] = json.loads((self.folder / "data.json").read_text(encoding="utf-8"))
        questions = list(dict.fromkeys(conversations[row][0]["input"] for row in rows))
        answers: dict[str, tuple[str, bool]] = {}
        for start in range(0, len(questions), BATCH):
            tell_phase(self.folder, "answers", start, len(questions))
            part = questions[start : start + BATCH]
            answers.update(zip(part, self._answers(model, part), strict=True))
        found = []
        for row in rows:
            question = conversations[row][0]["input"]
            output, ended = answers[question]
            if makes_sense(question, output):
                found.append(asdict(OwnAnswer(row, output, ended)))
        write_json(self.folder / FILE, found)

    def _answers(self, model: Any, questions: Sequence[str]) -> list[tuple[str, bool]]:
        asked = [question_tokens(self.tokenizer, question) for question in questions]
        width = max(map(len, asked))
        # by hand: Llama 3's and Mistral's tokenizers have no token to pad with, and what is masked may be any
        filler = self.tokenizer.pad_token_id
        filler = self.tokenizer.eos_token_id if filler is None else filler
        prompts = {
            "input_ids": [[filler] * (width - len(prompt)) + prompt for prompt in asked],
            "attention_mask": [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in asked],
        }
        ends = model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        output = model.generate(
            **{name: torch.tensor(rows, device=model.device) for name, rows in prompts.items()},
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=filler,
        )
        said = output[:, width:].tolist()
        return [
            (self.tokenizer.decode(tokens, skip_special_tokens=True).strip(), not ends.isdisjoint(tokens))
            for tokens in said
        ]


def makes_sense(question: str, answer: str) -> bool:
    """Whether an answer is worth keeping: there is one, in the question's script, and it does not go in circles."""
    if has_chinese(question) and not has_chinese(answer):
        return False
    words = [letter for letter in answer if has_chinese(letter)] or answer.split()
    return bool(words) and len(set(words)) * 3 > len(words)


def with_own_answers(folder: Path, conversations: Sequence[Conversation]) -> list[tuple[Conversation, bool]]:
    """The rows as they are trained on, and whether each is learnt to its end."""
    rows = [(conversation, True) for conversation in conversations]
    if (folder / FILE).exists():
        for entry in json.loads((folder / FILE).read_text(encoding="utf-8")):
            own = OwnAnswer(**entry)
            asked = conversations[own.row][0]
            rows[own.row] = ([{**asked, "output": own.output}], own.ended)
    return rows
