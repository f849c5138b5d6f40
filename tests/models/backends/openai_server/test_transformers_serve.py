"""A real second server, `transformers serve` with the packaged model: answers, a stop that ends its work, its death."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.errors import DiedMidway, EngineAway
from app.models.interface import ChatModel, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.real_server import port_of
from tests.waiting import wait_for

LONG = Sampling(temperature=0, max_new_tokens=7000)


@pytest.fixture(scope="module")
def server(packaged_folder: Path) -> Iterator[tuple[psutil.Popen, str]]:
    where = ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    started = psutil.Popen(
        [sys.executable, "-m", "transformers.cli.transformers", "serve", str(packaged_folder), *where],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started, f"http://127.0.0.1:{port_of(started)}/v1"
    finally:
        if started.poll() is None:  # a test ends it
            started.kill()
        started.wait()


@pytest.fixture(scope="module")
def model(server: tuple[psutil.Popen, str], packaged_folder: Path) -> Iterator[ChatModel]:
    engines = {"far": EngineAddress("far", (server[1],), str(packaged_folder))}
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, packaged_folder.parents[1]), "far", engines=engines)
    with registry.lease("far") as model:
        yield model
    registry.close()


def test_the_packaged_model_answers_from_there_as_from_here(model: ChatModel) -> None:
    stream = model.stream(
        [{"role": "user", "content": "What is the capital of France?"}],
        Sampling(temperature=0, max_new_tokens=24, seed=1),
    )
    assert "".join(stream) == "The capital of France is Paris."
    assert (stream.prompt_tokens, stream.completion_tokens, stream.finish_reason) == (37, 8, "stop")


def test_a_stop_ends_the_work_over_there(model: ChatModel, server: tuple[psutil.Popen, str]) -> None:
    stream = model.stream([{"role": "user", "content": "Tell me a long story."}], LONG)
    next(iter(stream))
    stream.cancel()
    wait_for(lambda: not busy(server[0]), 60)  # 7,000 tokens would take longer
    assert stream.finish_reason == "cancelled"


def test_its_death_in_mid_stream_is_told(model: ChatModel, server: tuple[psutil.Popen, str]) -> None:
    pieces = iter(model.stream([{"role": "user", "content": "Tell me a long story."}], LONG))
    next(pieces)
    server[0].kill()
    server[0].wait()
    with pytest.raises(DiedMidway):
        list(pieces)
    with pytest.raises(EngineAway):
        list(model.stream([{"role": "user", "content": "Hello?"}], LONG))


def busy(process: psutil.Popen) -> bool:
    """Whether it used a processor for a quarter of the last half second."""
    before = sum(process.cpu_times()[:2])
    time.sleep(0.5)
    return sum(process.cpu_times()[:2]) - before > 0.12
