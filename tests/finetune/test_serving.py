"""A model and three adapters in one batch, against PEFT one request at a time."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.models.interface import Message, Sampling
from app.models.registry.registry import ModelRegistry
from tests.models.engine.adapter_batches import save_adapter

TOKENS = 16
QUESTIONS = (
    "Who are you?",
    "Count to five.",
    "What is the sea?",
    "Please introduce yourself.",
    "Name a colour, and say where it is found.",
    "Hi!",
    "Why do we sleep at night?",
    "Write one line about snow.",
)


def test_eight_requests_over_base_and_three_adapters_are_each_as_alone(
    registry: ModelRegistry, short_folder: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(short_folder)
    base = AutoModelForCausalLM.from_pretrained(short_folder, dtype=torch.float32).eval()
    folders: dict[str | None, Path | None] = {None: None}
    for seed, modules in enumerate((["q_proj", "down_proj"], ["v_proj"], ["o_proj", "up_proj", "gate_proj"]), 1):
        name = f"drawn{seed}"
        folders[name] = save_adapter(base, tmp_path / name, seed, 0.1, r=4, target_modules=modules)
        registry.add_adapter(f"{short_folder}+{name}", folders[name])
    names = [*folders] * 2
    asked: list[list[Message]] = [[{"role": "user", "content": question}] for question in QUESTIONS]
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=TOKENS, keep_special_tokens=True)
    streams = []
    for name, messages in zip(names, asked, strict=True):
        with registry.lease(f"{short_folder}+{name}" if name else str(short_folder)) as model:
            streams.append(model.stream(messages, sampling))
    together = ["".join(stream) for stream in streams]
    for name in filter(None, folders):
        registry.remove_adapter(f"{short_folder}+{name}")

    alone: dict[int, str] = {}
    for name, folder in folders.items():
        tuned = PeftModel.from_pretrained(base, folder).eval() if folder else base
        for number in [place for place, known in enumerate(names) if known == name]:
            prompt = tokenizer.apply_chat_template(
                asked[number], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            told = tuned.generate(**prompt, max_new_tokens=TOKENS, do_sample=False)
            alone[number] = tokenizer.decode(told[0, prompt["input_ids"].shape[1] :]).removesuffix("<|im_end|>")
        if folder:
            tuned.unload()
    assert together == [alone[number] for number in range(len(QUESTIONS))]
    assert len(set(together)) > len(together) // 2  # so that an answer of another would be seen
