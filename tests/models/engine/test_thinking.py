"""Models that think, end to end: a tiny checkpoint with a template like Qwen3's, through the batch and `generate`."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.models.backends.hf_generate import GenerateEngine
from app.models.catalog import known_models
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.prompt import PromptBuilder
from app.models.interface import OutputFormat, Sampling, SamplingDefaults
from app.models.loading.generation_defaults import only_tokens, sampling_defaults, token_ids
from app.models.loading.loader import LoadedModel, load
from bench.check_models import turns
from bench.tiny_checkpoints import TEMPLATE, byte_tokenizer, save_tiny

SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
OPENED = TEMPLATE + SWITCH + "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"
SAMPLING = {"temperature": 0, "max_new_tokens": 5, "ignore_eos": True, "thinking": None}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = save_tiny("llama", tmp_path_factory.mktemp("thinks"))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = OPENED
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20, "num_beams": 4}')
    return load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)


@pytest.fixture(scope="module", params=["batch", "generate"])
def engine(request: pytest.FixtureRequest, loaded: LoadedModel) -> Iterator[Engine | GenerateEngine]:
    if request.param == "batch":
        made: Engine | GenerateEngine = Engine("thinks", loaded, EngineOptions(cache_tokens=1024, page_size=16))
    else:
        made = GenerateEngine("thinks", loaded)
    yield made
    made.close()
    loaded.model.set_attn_implementation("sdpa")


def test_reasoning_ends_at_its_budget_and_the_answer_has_its_own_length(engine: Engine | GenerateEngine) -> None:
    assert engine.thinking == "optional"
    generation = engine.stream(turns("Why?"), Sampling(**SAMPLING, max_reasoning_tokens=7))
    parts = list(generation.parts())
    kinds = [part.kind for part in parts]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"reasoning", "answer"}
    assert generation.reasoning == "".join(part.text for part in parts if part.kind == "reasoning")
    assert "think>" not in "".join(part.text for part in parts)
    assert generation.finish_reason == "length"
    assert generation.completion_tokens == generation.reasoning_tokens + 5
    assert generation.reasoning_tokens == 7 + len("\n</think>")


def test_iterating_reads_the_answer_alone_and_the_switch_turns_reasoning_off(
    engine: Engine | GenerateEngine,
) -> None:
    thought = Sampling(**SAMPLING, max_reasoning_tokens=7)
    answer = "".join(part.text for part in engine.stream(turns("Why?"), thought).parts() if part.kind == "answer")
    assert "".join(engine.stream(turns("Why?"), thought)) == answer
    plain = engine.stream(turns("Why?"), Sampling(**{**SAMPLING, "thinking": False}))
    assert "".join(plain) and plain.reasoning == "" and plain.completion_tokens == 5


@pytest.mark.parametrize("ending", ["", "{# enable_thinking #}"], ids=["opened by the template", "opened here"])
def test_a_format_begins_behind_the_reasoning(loaded: LoadedModel, ending: str) -> None:
    engine = Engine(
        "formed",
        replace(loaded, chat_template=(TEMPLATE + "{# <think> #}" + ending) if ending else OPENED),
        EngineOptions(cache_tokens=1024, page_size=16),
    )
    yes = OutputFormat('{"enum": ["yes", "不"]}')
    ends = tuple((token, 100.0) for token in loaded.stop_token_ids)  # it would rather say nothing at all
    drawn = Sampling(
        temperature=0, max_new_tokens=30, thinking=True, max_reasoning_tokens=7, output=yes, logit_bias=ends
    )
    answer = engine.stream(turns("Why?"), drawn)
    assert json.loads("".join(answer)) in ("yes", "不")
    assert answer.reasoning and answer.finish_reason == "stop"
    at_once = engine.stream(turns("Why?"), replace(drawn, thinking=False))
    assert json.loads("".join(at_once)) in ("yes", "不") and not at_once.reasoning
    engine.close()


@pytest.mark.parametrize("opening", ["<think>\n", ""], ids=["opened", "by itself"])
def test_who_does_not_ask_for_reasoning_gets_none_from_a_model_without_a_switch(
    loaded: LoadedModel, opening: str
) -> None:
    template = TEMPLATE + f"{{% if add_generation_prompt %}}{opening}{{% endif %}}{{# <think></think> #}}"
    engine = GenerateEngine("always", replace(loaded, chat_template=template))
    answer = engine.stream(turns("Why?"), Sampling(temperature=0, max_new_tokens=5, ignore_eos=True))
    assert "".join(answer) and (answer.reasoning, answer.completion_tokens) == ("", 5)
    skipped = PromptBuilder(loaded.tokenizer, template, 512).tokens(turns("Why?"))
    assert loaded.tokenizer.decode(skipped).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    engine.close()


def test_an_answer_keeps_room_behind_its_reasoning(loaded: LoadedModel) -> None:
    engine = GenerateEngine("narrow", replace(loaded, context_tokens=120))
    answer = engine.stream(turns("Why?"), Sampling(**{**SAMPLING, "max_new_tokens": 40}))
    assert "".join(answer) and answer.reasoning and answer.completion_tokens - answer.reasoning_tokens > 10
    engine.close()


def test_a_raw_text_is_continued_without_any_reasoning(loaded: LoadedModel) -> None:
    engine = Engine("raw", loaded, EngineOptions(cache_tokens=1024, page_size=16))
    marks = [(token, 100.0) for token in loaded.tokenizer.encode("<think>", add_special_tokens=False)[:1]]
    text = engine.complete(engine.encode("Say "), Sampling(temperature=0, max_new_tokens=9, logit_bias=tuple(marks)))
    assert "".join(text) == "<" * 9
    engine.close()


def test_values_of_a_generation_config_that_are_none_are_passed_over() -> None:
    odd = {"bos_token_id": [1], "pad_token_id": "x", "eos_token_id": [7, -1, "5", 9, True, None], "top_k": "3"}
    tokens = only_tokens(odd)
    assert (tokens.bos_token_id, tokens.pad_token_id, tokens.eos_token_id) == (1, None, [7, 9])
    assert token_ids(None) == token_ids([]) == token_ids("</s>") == set()
    strange = {"temperature": float("nan"), "top_p": 0, "min_p": None, "repetition_penalty": 1e-320}
    assert sampling_defaults(odd | strange) == SamplingDefaults(top_p=1.0)


def test_both_engines_take_the_checkpoint_s_defaults_and_penalties(engine: Engine | GenerateEngine) -> None:
    assert (engine.sampling_defaults.temperature, engine.sampling_defaults.top_k) == (0.6, 20)
    once = Sampling(temperature=0, max_new_tokens=12, ignore_eos=True, thinking=False, logit_bias=((40, 100.0),))
    text = "".join(engine.stream(turns("Why?"), once))
    assert len(set(text)) == 1, "one token is far more likely than all others"
    varied = Sampling(**{**vars(once), "frequency_penalty": 200.0})
    assert "".join(engine.stream(turns("Why?"), varied)).count(text[0]) == 1
