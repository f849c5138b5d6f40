"""InternLM 1, 2 and 2.5 compute what their description says, and speak as they were taught."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from app.models.catalog import known_models
from app.models.loading.checkpoint import UnsafeWeights
from app.models.loading.cpu_quantization import QuantizedLinear
from app.models.loading.errors import NoTokenizer, WeightsDoNotMatch
from app.models.loading.internlm import UnknownRope
from app.models.loading.loader import LoadedModel, load
from tests.models.loading import original_internlm as original

SECOND, FIRST = original.internlm2_config, original.internlm_config
CASES = {
    "2.5: grouped queries, dynamic rope": SECOND(520),
    "2: as many keys as queries": SECOND(520, num_key_value_heads=4, rope_scaling=None),
    "2: one key head for all": SECOND(520, num_key_value_heads=1),
    "2: with biases": SECOND(520, bias=True),
    "1: biases on q, k, v, o": FIRST(520),
    "1: 20B has none, plain rope": FIRST(520, bias=False, rotary={"base": 10000, "type": "origin"}),
}


@pytest.fixture(scope="module")
def second_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("internlm2")
    original.write_internlm2_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def first_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("internlm1")
    original.write_internlm_tokenizer(folder)
    return folder


def write(source: Path, folder: Path, config: dict[str, Any], layout: str = "safetensors") -> original.Weights:
    for file in ("tokenizer.model", "tokenizer_config.json"):
        (folder / file).write_bytes((source / file).read_bytes())
    weights = original.random_weights(config)
    original.write_weights(folder, config, weights, layout)
    return weights


def loaded(folder: Path, quantise: str | None = None) -> LoadedModel:
    return load(folder, known_models.find(str(folder)), "cpu", "float32", quantise, lambda *_: None)


def assert_same_logits(config: dict[str, Any], weights: original.Weights, folder: Path, length: int) -> None:
    ids = torch.randint(3, config["vocab_size"], (length,), generator=torch.Generator().manual_seed(length)).tolist()
    with torch.no_grad():
        ours = loaded(folder).model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(ours, original.logits(config, weights, ids), atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_description(
    case: str, tmp_path: Path, first_folder: Path, second_folder: Path
) -> None:
    config = CASES[case]
    source = second_folder if config["model_type"] == "internlm2" else first_folder
    weights = write(source, tmp_path, config)
    assert_same_logits(config, weights, tmp_path, 40)
    assert_same_logits(config, weights, tmp_path, 100)  # beyond the trained length: dynamic rope sets in


def test_the_first_generation_has_biases_unless_its_config_says_no(tmp_path: Path, first_folder: Path) -> None:
    config = FIRST(520)
    weights = write(first_folder, tmp_path, config)
    unsaid = {key: value for key, value in config.items() if key != "bias"}
    (tmp_path / "config.json").write_text(json.dumps(unsaid))
    assert_same_logits(config, weights, tmp_path, 20)


@pytest.mark.parametrize("layout", ["shards", "bin"])
def test_shards_and_pickles_read_the_same(layout: str, tmp_path: Path, second_folder: Path) -> None:
    config = SECOND(520)
    weights = write(second_folder, tmp_path, config, layout)
    assert_same_logits(config, weights, tmp_path, 30)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, second_folder: Path) -> None:
    write(second_folder, tmp_path, SECOND(520))
    (tmp_path / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Touch(str(tmp_path / "touched"))}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafeWeights):
        loaded(tmp_path)
    assert not (tmp_path / "touched").exists()


class Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_missing_tensor_is_refused_not_invented(tmp_path: Path, second_folder: Path) -> None:
    config = SECOND(520)
    weights = write(second_folder, tmp_path, config)
    del weights["model.layers.1.feed_forward.w3.weight"]
    original.write_weights(tmp_path, config, weights)
    with pytest.raises(WeightsDoNotMatch) as refusal:
        loaded(tmp_path)
    assert "layers.1.mlp.up_proj" in refusal.value.text("zh")


def test_weights_of_another_size_are_refused(tmp_path: Path, second_folder: Path) -> None:
    weights = write(second_folder, tmp_path, SECOND(520))
    original.write_weights(tmp_path, SECOND(520, intermediate_size=64), weights)
    with pytest.raises(WeightsDoNotMatch):
        loaded(tmp_path)


def test_a_rope_nobody_knows_is_refused(tmp_path: Path, second_folder: Path) -> None:
    write(second_folder, tmp_path, SECOND(520, rope_scaling={"type": "spiral", "factor": 2}))
    with pytest.raises(UnknownRope) as refusal:
        loaded(tmp_path)
    assert "spiral" in refusal.value.text("en")


def test_no_tokenizer_is_said(tmp_path: Path, second_folder: Path) -> None:
    write(second_folder, tmp_path, SECOND(520))
    (tmp_path / "tokenizer.model").write_bytes(b"not a model at all")
    with pytest.raises(NoTokenizer):
        loaded(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(NoTokenizer):
        loaded(tmp_path)


@pytest.mark.parametrize(("precision", "least"), [("8bit", 0.99), ("4bit", 0.9)])
def test_quantised_it_still_says_nearly_the_same(
    tmp_path: Path, second_folder: Path, precision: str, least: float
) -> None:
    config = SECOND(520, hidden_size=128, intermediate_size=256, num_hidden_layers=1)
    weights = write(second_folder, tmp_path, config)
    ids = list(range(3, 40))
    small = loaded(tmp_path, precision)
    with torch.no_grad():
        ours = small.model(torch.tensor([ids])).logits[0]
    truth = original.logits(config, weights, ids)
    assert torch.nn.functional.cosine_similarity(ours, truth).mean() > least
    assert isinstance(small.model.model.layers[0].mlp.up_proj, QuantizedLinear)


def test_the_second_generation_speaks_chatml_with_named_turns(tmp_path: Path, second_folder: Path) -> None:
    write(second_folder, tmp_path, SECOND(520))
    model = loaded(tmp_path)
    turns = [
        {"role": "system", "content": "S"},
        {"role": "system", "name": "<|interpreter|>", "content": "T"},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "A<|action_start|><|interpreter|>\n1<|action_end|>"},
        {"role": "environment", "name": "<|interpreter|>", "content": "1"},
    ]
    assert prompt(model, turns) == (
        "<s><|im_start|>system\nS<|im_end|>\n"
        "<|im_start|>system name=<|interpreter|>\nT<|im_end|>\n"
        "<|im_start|>user\n你好<|im_end|>\n"
        "<|im_start|>assistant\nA<|action_start|><|interpreter|>\n1<|action_end|><|im_end|>\n"
        "<|im_start|>environment name=<|interpreter|>\n1<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    vocabulary = model.tokenizer.get_vocab()
    assert set(model.stop_token_ids) == {vocabulary["<|im_end|>"], vocabulary["</s>"]}
    assert model.context_tokens == 64


def test_a_template_of_its_own_is_kept_when_it_says_something_else(tmp_path: Path, second_folder: Path) -> None:
    write(second_folder, tmp_path, SECOND(520))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert prompt(loaded(tmp_path), [{"role": "user", "content": "x"}]) == "[x]"


def test_the_first_generation_speaks_its_own_format(tmp_path: Path, first_folder: Path) -> None:
    write(first_folder, tmp_path, FIRST(520))
    model = loaded(tmp_path)
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "B"},
    ]
    assert prompt(model, turns) == ("<s><|System|>:S\n<|User|>:你好<eoh>\n<|Bot|>:A<eoa>\n<|User|>:B<eoh>\n<|Bot|>:")
    assert model.tokenizer.get_vocab()["<eoa>"] in model.stop_token_ids


def prompt(model: LoadedModel, turns: list[dict[str, str]]) -> str:
    return str(
        model.tokenizer.apply_chat_template(
            turns, chat_template=model.chat_template, tokenize=False, add_generation_prompt=True
        )
    )
