"""ZeroGPU of Hugging Face Spaces: run generators in a process forked for the lent GPU.

`spaces` runs that process: it forks the server, takes the arguments pickled, gives the GPU to the child and sends back
what the generator yields. The child knows the models that were loaded before it was forked, and no others.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from app.errors import ModelError
from app.models.backends.hf_generate import GenerateEngine, QueuedRequest, generate
from app.models.loading.loader import LoadedModel

START_SECONDS = 20.0  # for the weights to reach the GPU, and the prompt to be read
TOKENS_PER_SECOND = 15.0  # at the least
LONGEST_SECONDS = 120.0  # what one visitor may ask for at once
Mark = Callable[..., Callable[..., Iterator[int]]]


class TooLateForTheGpu(ModelError):
    zh = "模型 {name} 来不及用上借来的 GPU：只有第一次回答之前加载的模型可以。请换用启动时的模型。"
    en = "The model {name} came too late for the lent GPU, which knows what was loaded before the first answer only."


class LentGpu:
    """Runs requests inside what `mark` (`spaces.GPU`) makes of a generator function."""

    def __init__(self, mark: Mark, device: str = "cuda") -> None:
        self._models: dict[str, Any] = {}
        self._device = device
        self._forked = False
        self._run = mark(self._tokens, duration=seconds_for)

    def add(self, name: str, model: Any) -> Any:
        """Keep the model where a forked process finds it; returns the one that is kept. Raises TooLateForTheGpu."""
        if name in self._models:
            return self._models[name]
        if self._forked:
            raise TooLateForTheGpu(name=name)
        # spaces stands in for CUDA on the main thread only; what is loaded elsewhere moves in the child
        is_main = threading.current_thread() is threading.main_thread()
        self._models[name] = model.to(self._device) if is_main else model
        return self._models[name]

    def engine(self, name: str, loaded: LoadedModel) -> GenerateEngine:
        """The model as one that answers on the lent GPU. Raises TooLateForTheGpu."""
        return GenerateEngine(name, replace(loaded, model=self.add(name, loaded.model)), self.tokens)

    def tokens(self, wanted: QueuedRequest) -> Iterator[int]:
        """The answer's tokens; closing the iterator ends the request."""
        self._forked = True
        inputs = {name: _portable(value) for name, value in wanted.inputs.items()}
        return self._run(QueuedRequest(**{**vars(wanted), "inputs": inputs}))

    def _tokens(self, wanted: QueuedRequest) -> Iterator[int]:
        model = self._models[wanted.model].to(self._device)
        inputs = {name: _tensors(value) for name, value in wanted.inputs.items()}
        there: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        ended = threading.Event()

        def work() -> None:
            end: Exception | None = None
            try:
                generate(model, QueuedRequest(**{**vars(wanted), "inputs": inputs}), there.put, ended.is_set)
            except Exception as error:
                end = error
            there.put(end)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            while isinstance(given := there.get(), int):
                yield given
            if given is not None:
                raise given
        finally:
            ended.set()
            thread.join()


def is_lent(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a ZeroGPU Space; by the variable that `spaces` reads."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def borrow() -> LentGpu | None:
    """The GPU that the Space lends, if it lends one."""
    if not is_lent():
        return None
    import spaces  # a ZeroGPU Space installs it itself

    return LentGpu(spaces.GPU)


def seconds_for(wanted: QueuedRequest) -> float:
    """How long the GPU is asked for; what is not used is not charged."""
    return min(LONGEST_SECONDS, START_SECONDS + wanted.most / TOKENS_PER_SECOND)


def _portable(value: Any) -> Any:
    """Tensors are pickled as arrays: torch would send them through shared memory, which must outlive both ends."""
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _tensors(value: Any) -> Any:
    return torch.from_numpy(value) if hasattr(value, "__array_interface__") else value
