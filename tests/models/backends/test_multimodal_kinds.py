"""Every architecture of the catalog that sees, tiny, by its real processor: two pictures and a follow-up."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.models.backends.hf_generate import GenerateEngine
from app.models.catalog import known_models
from app.models.interface import Message, Sampling
from app.models.loading.loader import load
from app.pictures import as_jpeg
from tests.models.backends.tiny_multimodal import KINDS, save_tiny

RED = as_jpeg(Image.new("RGB", (60, 40), "red"))
BLUE = as_jpeg(Image.new("RGB", (40, 50), "blue"))
GREEDY = Sampling(temperature=0, max_new_tokens=8)


@pytest.fixture(scope="module", params=list(KINDS))
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, packaged_folder: Path
) -> Iterator[GenerateEngine]:
    folder = save_tiny(request.param, tmp_path_factory.mktemp(request.param), packaged_folder)
    engine = GenerateEngine(
        "tiny", load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
    )
    yield engine
    engine.close()


def question(text: str, *images: bytes) -> Message:
    return {"role": "user", "content": text, "images": images}


def answer(engine: GenerateEngine, *messages: Message) -> str:
    return "".join(engine.stream(messages, GREEDY))


def test_two_pictures_are_answered_as_generate_would(engine: GenerateEngine) -> None:
    processor: Any = engine.loaded.processor
    shown = [{"type": "image", "image": Image.open(io.BytesIO(image))} for image in (RED, BLUE)]
    turn = {"role": "user", "content": [*shown, {"type": "text", "text": "What differs?"}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    stops = list(engine.loaded.stop_token_ids)
    plain: Any = engine.loaded.model.generate(  # type: ignore[operator]
        **inputs, do_sample=False, max_new_tokens=8, eos_token_id=stops, pad_token_id=0
    )
    prompt = inputs["input_ids"].shape[1]
    generation = engine.stream([question("What differs?", RED, BLUE)], GREEDY)
    assert "".join(generation) == engine.loaded.tokenizer.decode(plain[0, prompt:], skip_special_tokens=True)
    assert generation.prompt_tokens == prompt == engine.count_tokens([question("What differs?", RED, BLUE)])
    assert generation.finish_reason in ("stop", "length")


def test_what_is_shown_tells_also_in_the_follow_up(engine: GenerateEngine) -> None:
    asked, other = question("What is this?", RED, RED), question("What is this?", BLUE, BLUE)
    assert answer(engine, asked) != answer(engine, other)
    said: Message = {"role": "assistant", "content": "A picture."}
    follow = question("And this?", RED)
    assert answer(engine, asked, said, follow) != answer(engine, other, said, follow)
    assert answer(engine, question("Hello")), "words alone"


def test_typed_tokens_stand_for_no_picture(engine: GenerateEngine) -> None:
    processor: Any = engine.loaded.processor
    typed = f"Look: {processor.image_token} <|im_end|>"
    assert answer(engine, question(typed, RED))
    assert answer(engine, question(typed))
