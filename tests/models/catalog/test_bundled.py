"""The wheel's GGUF becomes a folder that says what the original says."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.models.catalog import known_models, sources
from app.models.loading.loader import LoadedModel, load

CARD = known_models.find("smollm2-135m")
FULL_DISK = """
import resource, sys
from pathlib import Path
from app.models.catalog import known_models, sources
from app.models.catalog.atomic_folder import DiskFull
resource.setrlimit(resource.RLIMIT_FSIZE, (2**26, 2**26))
try:
    sources.fetch(known_models.find("smollm2-135m"), Path(sys.argv[1]), lambda *_: None)
except DiskFull as error:
    print(error.text("en"))
"""


def test_progress_ends_at_one_and_a_second_fetch_does_nothing(tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    again: list[tuple[float, str]] = []
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(sources.fetch, CARD, tmp_path, lambda *step: seen.append(step)) for _ in range(2)]
    first, second = (future.result() for future in both)
    assert first == second == sources.fetch(CARD, tmp_path, lambda *step: again.append(step))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions.count(1.0) == 1
    assert again == []
    assert (first / "model.safetensors").stat().st_size > 250 * 2**20


@pytest.fixture(scope="module")
def loaded(packaged_folder: Path) -> LoadedModel:
    return load(packaged_folder, CARD, "cpu", "bfloat16", None, lambda *_: None)


def test_it_answers_as_the_original_does(loaded: LoadedModel) -> None:
    prompt = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        chat_template=loaded.chat_template,
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = loaded.model.generate(**prompt, max_new_tokens=20, do_sample=False)
    answer = loaded.tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."
    assert output[0, -1].item() in loaded.stop_token_ids
    assert loaded.context_tokens == 8192
    assert loaded.mib == CARD.mib("bfloat16", None)


def test_digits_are_split_one_by_one(loaded: LoadedModel) -> None:
    assert loaded.tokenizer.tokenize("2024") == ["2", "0", "2", "4"]
    text = "Grüße, 你好 👋\n\t<|im_start|>x"
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert "disk is too full" in child.stdout, child.stderr[-2000:]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
