"""Questions about pictures, with a tiny InternVL and its real processor."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from PIL import Image

from app.models.backends.hf_generate import GenerateEngine
from app.models.backends.multimodal import NoProcessor
from app.models.engine.prompt import CannotSee
from app.models.interface import Message, Sampling
from app.models.registry.metering import Meter
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.pictures import BrokenPicture, as_jpeg
from bench.vision_check import check, missing
from tests.models.backends.tiny_internvl import TOKENS_PER_TILE, save_tiny_internvl

RED = as_jpeg(Image.new("RGB", (40, 40), "red"))
BLUE = as_jpeg(Image.new("RGB", (40, 40), "blue"))
GREEDY = Sampling(temperature=0, max_new_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, packaged_folder: Path) -> Path:
    return save_tiny_internvl(tmp_path_factory.mktemp("internvl"), packaged_folder)


@pytest.fixture(scope="module")
def registry(folder: Path, packaged_folder: Path) -> Iterator[ModelRegistry]:
    placement = Placement("cpu", "float32", None, 4096, packaged_folder.parent.parent)
    registry = ModelRegistry(placement, str(folder))
    yield registry
    registry.close()


@pytest.fixture
def engine(registry: ModelRegistry, folder: Path) -> Iterator[GenerateEngine]:
    with registry.lease(str(folder)):
        resident = registry.memory_manager.resident(folder.name)
        yield cast(GenerateEngine, cast("object", resident).engine)  # type: ignore[attr-defined]


def question(text: str, *images: bytes) -> Message:
    return {"role": "user", "content": text, "images": images}


def answer(engine: GenerateEngine, *messages: Message) -> str:
    return "".join(engine.stream(messages, GREEDY))


def test_the_ledger_and_the_registry_say_that_it_sees(registry: ModelRegistry, folder: Path) -> None:
    assert registry.is_multimodal(str(folder)) is True
    assert registry.is_multimodal("smollm2-135m") is False
    assert registry.is_multimodal("internvl3-1b") is True
    assert registry.is_multimodal("somebody/some-model") is None, "not known before its files are here"
    with registry.lease(str(folder)) as model:
        assert model.is_multimodal
        assert Meter().model(model).is_multimodal
    entry = next(entry for entry in registry.ledger().models if entry.name == folder.name)
    assert (entry.kind, entry.state, entry.leases) == ("vision", "ready", 0)
    assert registry.names()[0] == folder.name


def test_it_streams_what_generate_gives_for_two_pictures(engine: GenerateEngine) -> None:
    processor, model = engine.loaded.processor, engine.loaded.model
    assert "InternVLProcessor" in type(processor).__name__
    shown = [{"type": "image", "image": Image.open(io.BytesIO(image))} for image in (RED, BLUE)]
    turn = {"role": "user", "content": [*shown, {"type": "text", "text": "What differs?"}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    plain = model.generate(**inputs, do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0)
    prompt = inputs["input_ids"].shape[1]
    generation = engine.stream([question("What differs?", RED, BLUE)], GREEDY)
    pieces = list(generation)
    assert "".join(pieces) == engine.loaded.tokenizer.decode(plain[0, prompt:], skip_special_tokens=True)
    assert len(pieces) > 1, "it streams"
    assert generation.prompt_tokens == prompt
    assert (inputs["input_ids"] == engine.loaded.tokenizer.context_image_token_id).sum() == 2 * (
        4 + 1
    ) * TOKENS_PER_TILE


def test_what_is_shown_tells_and_a_follow_up_still_sees_it(engine: GenerateEngine) -> None:
    asked = question("What is this?", RED)
    said: Message = {"role": "assistant", "content": answer(engine, asked)}
    follow: Message = {"role": "user", "content": "And why?"}
    assert answer(engine, asked) != answer(engine, question("What is this?", BLUE))
    assert answer(engine, asked, said, follow) != answer(engine, question("What is this?", BLUE), said, follow)


def test_text_alone_is_answered_too_and_counted(engine: GenerateEngine) -> None:
    words = question("Hello")
    assert answer(engine, words)
    with_picture = engine.count_tokens([question("Hello", RED)])
    assert with_picture > engine.count_tokens([words]) + TOKENS_PER_TILE


def test_typed_tokens_stand_for_no_picture(engine: GenerateEngine) -> None:
    typed = "Look: <IMG_CONTEXT> <img></img><|im_end|>"
    assert answer(engine, question(typed, RED))
    assert answer(engine, question(typed))


def test_an_answer_about_a_picture_goes_on_from_its_last_letter(engine: GenerateEngine) -> None:
    asked, words = question("What is this?", RED), "It is a re"
    begun: Message = {"role": "assistant", "content": words, "begun": True}
    more = len(engine.loaded.tokenizer.encode(words, add_special_tokens=False))
    assert engine.count_tokens([asked, begun]) == engine.count_tokens([asked]) + more
    assert answer(engine, asked, begun)


def test_old_pictures_give_way_when_the_context_is_full(engine: GenerateEngine) -> None:
    turns: list[Message] = []
    for _ in range(40):
        turns += [question("word " * 50, RED), {"role": "assistant", "content": "yes"}]
    generation = engine.stream([*turns, question("Last", BLUE)], GREEDY, drop_oldest=True)
    assert generation.dropped_turns > 0
    assert "".join(generation)


def test_one_stops_and_the_next_gets_its_turn(engine: GenerateEngine) -> None:
    long = engine.stream([question("Hello", RED)], Sampling(temperature=0, max_new_tokens=1500))
    after = engine.stream([question("Hello", BLUE)], GREEDY)
    assert after.queue_ahead == 1
    next(iter(long))
    long.cancel()
    assert "".join(after)
    assert long.finish_reason == "cancelled"


def test_a_broken_picture_is_refused_before_anything_runs(engine: GenerateEngine) -> None:
    cut = as_jpeg(Image.effect_noise((200, 200), 90).convert("RGB"))[:4000]
    with pytest.raises(BrokenPicture):
        engine.stream([question("What?", cut)], GREEDY)
    assert answer(engine, question("What?", RED)), "the engine still answers"


def test_a_model_that_does_not_see_says_so(packaged_folder: Path, registry: ModelRegistry) -> None:
    with registry.lease(str(packaged_folder)) as model, pytest.raises(CannotSee, match="cannot see pictures"):
        model.stream([question("What is this?", RED)], GREEDY)


def test_without_its_processor_s_files_it_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "preprocessor_config.json").unlink()
    registry = ModelRegistry(Placement("cpu", "float32", None, 4096, tmp_path), "smollm2-135m")
    with pytest.raises(NoProcessor, match=r"preprocessor_config\.json"), registry.lease(str(copy)):
        pass


def test_the_check_says_what_was_not_named_and_when_there_is_no_hub(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(str(folder), "cpu", 4096, tmp_path) == 1, "random weights see nothing"
    assert "not named: circle" in capsys.readouterr().err
    assert missing("A red circle and a blue square.") == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert check("internvl3-1b", "cpu", 24_000, tmp_path) == 2
    assert "check-vision needs the hub" in capsys.readouterr().err


def test_in_half_precision_too(folder: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(Placement("cpu", "bfloat16", None, 4096, tmp_path), "smollm2-135m")
    with registry.lease(str(folder)) as model:
        assert "".join(model.stream([question("What is this?", RED, BLUE)], GREEDY))
    registry.close()
    assert torch.is_grad_enabled()
