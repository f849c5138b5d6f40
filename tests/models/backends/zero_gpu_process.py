"""Imitates what `spaces` does with a marked generator on a ZeroGPU Space: a process forked at the first call and kept,
arguments and results pickled, closed when the caller closes."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import torch

FORK = multiprocessing.get_context("fork")


@dataclass
class Lender:
    """`mark` takes the place of `spaces.GPU`. `asked_s` is how long the device was asked for each time."""

    asked_s: list[float] = field(default_factory=list)
    closed: int = 0
    _child: BaseProcess | None = None

    def mark(self, task: Callable[..., Iterator[int]], duration: Callable[..., float]) -> Callable[..., Iterator[int]]:
        there, back, stop = FORK.SimpleQueue(), FORK.SimpleQueue(), FORK.Event()

        def run(*arguments: Any) -> Iterator[int]:
            self.asked_s.append(duration(*arguments))
            if self._child is None:
                self._child = FORK.Process(target=_serve, args=(task, there, back, stop), daemon=True)
                self._child.start()
            there.put(pickle.dumps(arguments))
            try:
                while (kind_value := back.get())[0] == "one":
                    yield kind_value[1]
            except GeneratorExit:
                self.closed += 1
                stop.set()
                while back.get()[0] == "one":
                    pass
                raise
            if kind_value[0] == "fault":
                raise RuntimeError(kind_value[1])

        return run

    def end(self) -> None:
        if self._child is not None:
            self._child.terminate()
            self._child.join()


def _serve(task: Callable[..., Iterator[int]], there: Any, back: Any, stop: Any) -> None:
    torch.set_num_threads(1)  # the threads of the parent's pool are not in a forked child
    while True:
        arguments = pickle.loads(there.get())
        stop.clear()
        generator: Any = task(*arguments)
        try:
            for value in generator:
                if stop.is_set():
                    generator.close()
                    break
                back.put(("one", value))
            back.put(("end", None))
        except Exception as fault:
            back.put(("fault", repr(fault)))
