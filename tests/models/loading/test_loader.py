"""What is loaded from a folder, and what is refused without running anything in it."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternLM3Config, LlamaForCausalLM

from app.models.catalog import known_models
from app.models.engine.generation import TokenReader
from app.models.engine.prompt import EncodedPrompt
from app.models.engine.request_builder import RequestBuilder
from app.models.engine.tool_calls import HERMES, ToolForm, form_of
from app.models.interface import Sampling
from app.models.loading.chat_templates import BrokenTemplate
from app.models.loading.checkpoint import BrokenWeights
from app.models.loading.errors import CannotBeLoaded, UnknownArchitecture, UnusableConfig, WeightsDoNotMatch, first_line
from app.models.loading.loader import load, tokenizer_of
from bench.tiny_checkpoints import save_tiny
from tests.models.loading import original_internlm as original


def test_code_that_comes_with_a_model_is_refused_and_not_run(tmp_path: Path) -> None:
    original.write_internlm2_tokenizer(tmp_path)
    config = original.internlm2_config(520)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    weights = original.random_weights(config)
    original.write_weights(tmp_path, {**config, "model_type": "own", "auto_map": auto_map}, weights)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    with pytest.raises(UnknownArchitecture) as refusal:
        load(tmp_path, known_models.find(str(tmp_path)), "cpu", "float32", None, lambda *_: None)
    assert "own" in refusal.value.text("zh")
    assert not (tmp_path / "touched").exists()


def test_the_third_internlm_loads_with_sentencepieces_ids_and_named_turns(tmp_path: Path) -> None:
    processor = original.write_internlm2_tokenizer(tmp_path)
    config = InternLM3Config(
        vocab_size=520,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    steps: list[float] = []
    loaded = load(
        tmp_path, known_models.find(str(tmp_path)), "cpu", "float32", None, lambda done, _: steps.append(done)
    )
    ids = loaded.tokenizer.encode("你好 hello", add_special_tokens=False)
    assert ids == processor.encode("你好 hello")
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)
    turn = {"role": "environment", "name": "<|interpreter|>", "content": "1"}
    shown = loaded.tokenizer.apply_chat_template([turn], chat_template=loaded.chat_template, tokenize=False)
    assert shown == "<s><|im_start|>environment name=<|interpreter|>\n1<|im_end|>\n"
    assert loaded.tokenizer.get_vocab()["<|im_end|>"] in loaded.stop_token_ids
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 1


def test_a_model_that_was_never_taught_to_chat_gets_a_plain_format(tmp_path: Path, packaged_folder: Path) -> None:
    for file in packaged_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer_config.json").unlink()
    settings = json.loads((packaged_folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = load(tmp_path, known_models.find(str(tmp_path)), "cpu", "bfloat16", None, lambda *_: None)
    messages = [{"role": "user", "content": "Hi"}]
    shown = loaded.tokenizer.apply_chat_template(
        messages, chat_template=loaded.chat_template, tokenize=False, add_generation_prompt=True
    )
    assert shown == "<|im_start|>user: Hi\n\nassistant:"


def test_an_answer_in_the_plain_format_ends_before_the_user_s_part(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    loaded = load(tmp_path, known_models.find(str(tmp_path)), "cpu", "float32", None, lambda *_: None)
    requests = RequestBuilder(loaded, 100)
    tokens = loaded.tokenizer.encode(" Hello.\n\nuser: And now?\n\nassistant: I", add_special_tokens=False)

    def read(reader: TokenReader) -> tuple[str, bool]:
        return "".join(part.text for token in tokens for part in reader.push(token)), reader.ended

    assert read(requests.reader(EncodedPrompt([0]), Sampling())) == (" Hello.", True)
    assert read(requests.reader(requests.plain([0]), Sampling())) == (loaded.tokenizer.decode(tokens), False)


CALLING = "\n {% if true %}{{ tools[0] }} <tool_call>{% endif %}\n"


@pytest.mark.parametrize(
    ("for_tools", "shown", "form"),
    [(CALLING, "\n{'name': 'go'} <tool_call>", HERMES), ("{% if tools", "\nHi ", None)],
    ids=["whole", "broken"],
)
def test_of_several_templates_the_one_for_tools_is_taken_where_there_are_some(
    tmp_path: Path, for_tools: str, shown: str, form: ToolForm | None
) -> None:
    folder = save_tiny("llama", tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    default = "\n{% for message in messages %}{{ message.content }}{% endfor %}\n \n"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = [{"name": "default", "template": default}, {"name": "tool_use", "template": for_tools}]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = tokenizer_of(folder, known_models.find(str(folder)))
    turns = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "\nHi "
    assert tokenizer.apply_chat_template(turns, tools=[{"name": "go"}], tokenize=False) == shown
    assert form_of(str(tokenizer.chat_template)) == form


def test_what_cannot_be_used_is_a_sentence_in_both_languages(tmp_path: Path) -> None:
    whole = save_tiny("llama", tmp_path / "whole")
    weights = load_file(whole / "model.safetensors")

    def spoilt(name: str) -> Path:
        return Path(shutil.copytree(whole, tmp_path / name))

    silent, nested, narrow, endless, half = (spoilt(name) for name in ("silent", "nested", "narrow", "endless", "half"))
    (silent / "chat_template.jinja").write_text("{# says nothing #}")
    (nested / "model.safetensors").unlink()
    torch.save({"epoch": 3, "model": weights}, nested / "pytorch_model.bin")
    save_file({**weights, "model.norm.weight": torch.ones(7)}, narrow / "model.safetensors", {"format": "pt"})
    config = json.loads((endless / "config.json").read_text())
    (endless / "config.json").write_text(json.dumps({**config, "hidden_size": None}))
    inner = {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    (half / "config.json").write_text(json.dumps({"model_type": "gemma4_assistant", "text_config": inner}))
    for folder, error in (
        (half, CannotBeLoaded),  # of an architecture whose own default config is none that it accepts
        (silent, BrokenTemplate),
        (nested, BrokenWeights),
        (narrow, WeightsDoNotMatch),
        (endless, UnusableConfig),
    ):
        with pytest.raises(error) as refusal:
            load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
        told = refusal.value.text("zh").replace(str(folder), "")
        assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", told), "a library's English in a Chinese sentence"


def test_what_a_library_says_is_told_without_folders_of_the_server() -> None:
    error = OSError("\ncannot read '/srv/data/models/x y/config.json' of https://hub.co/a/b: 1/2 done")
    assert first_line(error) == "cannot read 'config.json' of https://hub.co/a/b: 1/2 done"
