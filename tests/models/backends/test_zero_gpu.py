"""Answers computed in a process that is forked for them, as on a ZeroGPU Space; no GPU is needed to see them equal."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import spaces

from app.errors import EngineFailed
from app.models.backends.hf_generate import GenerateEngine
from app.models.backends.zero_gpu import LentGpu, TooLateForTheGpu, borrow, is_lent
from app.models.catalog import known_models
from app.models.interface import Message, Sampling
from app.models.loading.loader import LoadedModel, load
from tests.models.backends.zero_gpu_process import Lender

STORY: list[Message] = [{"role": "user", "content": "Tell me about the sea in three sentences."}]
DRAWN = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, seed=7)


@pytest.fixture(scope="module")
def loaded(packaged_folder: Path) -> LoadedModel:
    return load(packaged_folder, known_models.find(known_models.PACKAGED), "cpu", "float32", None, lambda *_: None)


@pytest.fixture(scope="module")
def plain(loaded: LoadedModel) -> Iterator[GenerateEngine]:
    engine = GenerateEngine("small", loaded)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def lender() -> Iterator[Lender]:
    lender = Lender()
    yield lender
    lender.end()


@pytest.fixture(scope="module")
def gpu(lender: Lender) -> LentGpu:
    return LentGpu(lender.mark, "cpu")


@pytest.fixture(scope="module")
def lent(gpu: LentGpu, loaded: LoadedModel) -> Iterator[GenerateEngine]:
    engine = gpu.engine("small", loaded)
    yield engine
    engine.close()


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, max_new_tokens=12), DRAWN], ids=["greedy", "seeded"])
def test_the_forked_process_answers_as_this_one_does(
    plain: GenerateEngine, lent: GenerateEngine, sampling: Sampling
) -> None:
    here = plain.stream(STORY, sampling)
    told = "".join(here)  # to its end: a thread that draws while the process forks leaves the child torch's closed lock
    there = lent.stream(STORY, sampling)
    assert "".join(there) == told != ""
    assert there.finish_reason == here.finish_reason == "length"
    assert there.completion_tokens == 12


def test_a_stop_string_and_a_stop_close_the_generator(lent: GenerateEngine, lender: Lender) -> None:
    full = "".join(lent.stream(STORY, Sampling(temperature=0, max_new_tokens=12)))
    word = full.split()[2]
    closed = lender.closed
    stopped = lent.stream(STORY, Sampling(temperature=0, max_new_tokens=3000, stop=(word,)))
    assert "".join(stopped) == full.partition(word)[0] and stopped.finish_reason == "stop"
    cancelled = lent.stream(STORY, Sampling(temperature=0, max_new_tokens=3000))
    next(iter(cancelled))
    cancelled.cancel()
    assert "".join(lent.stream(STORY, Sampling(temperature=0, max_new_tokens=2)))
    assert lender.closed == closed + 2


def test_the_time_that_is_asked_for_follows_the_answer_s_length(lent: GenerateEngine, lender: Lender) -> None:
    for most in (1, 300, 5000):
        generation = lent.stream(STORY, Sampling(temperature=0, max_new_tokens=most, stop=(" ",)))
        "".join(generation)
    short, long, longest = lender.asked_s[-3:]
    assert short < long < longest <= 120


def test_what_comes_after_the_first_answer_is_refused_and_a_fault_is_told(
    gpu: LentGpu, lent: GenerateEngine, loaded: LoadedModel
) -> None:
    "".join(lent.stream(STORY, Sampling(temperature=0, max_new_tokens=1)))
    assert gpu.add("small", loaded.model) is loaded.model
    with pytest.raises(TooLateForTheGpu):
        gpu.engine("late", loaded)
    unknown = GenerateEngine("late", loaded, gpu.tokens)
    with pytest.raises(EngineFailed):
        "".join(unknown.stream(STORY, Sampling(temperature=0, max_new_tokens=1)))
    unknown.close()


def test_elsewhere_the_mark_of_spaces_changes_nothing_and_nothing_is_borrowed(
    plain: GenerateEngine, loaded: LoadedModel
) -> None:
    engine = LentGpu(spaces.GPU, "cpu").engine("small", loaded)
    assert "".join(engine.stream(STORY, DRAWN)) == "".join(plain.stream(STORY, DRAWN))
    engine.close()
    assert borrow() is None and not is_lent({}) and is_lent({"SPACES_ZERO_GPU": "true"})
