"""The number of OpenMP threads of a step follows what was fast lately, and is the calling thread's own."""

import threading

import torch

from app.models.engine.thread_count import TRIED_AFTER, TRIED_EVERY, ThreadCount, Timings


def run(timings: Timings, seconds: dict[int, float], steps: int) -> list[int]:
    chosen = []
    for _ in range(steps):
        number = timings.choose()
        timings.add(number, seconds[number])
        chosen.append(number)
    return chosen


def test_one_thread_is_taken_while_the_others_wait_and_given_up_when_cores_are_free_again() -> None:
    timings = Timings((4, 1))
    idle = run(timings, {4: 0.02, 1: 0.05}, 3 * TRIED_EVERY)
    assert idle[-TRIED_EVERY:].count(4) >= TRIED_EVERY - 1
    busy = run(timings, {4: 0.4, 1: 0.06}, 4 * TRIED_EVERY)
    assert busy[-TRIED_EVERY:].count(1) >= TRIED_EVERY - 1
    free = run(timings, {4: 0.02, 1: 0.05}, 4 * TRIED_EVERY)
    assert free[-TRIED_EVERY:].count(4) >= TRIED_EVERY - 1


def test_after_a_short_disturbance_all_cores_are_tried_soon() -> None:
    timings = Timings((4, 1))
    run(timings, {4: 0.02, 1: 0.05}, 4 * TRIED_EVERY)
    disturbed = run(timings, {4: 0.4, 1: 0.06}, 8)
    assert disturbed[-1] == 1
    assert 4 in run(timings, {4: 0.02, 1: 0.05}, 2 * TRIED_AFTER)


def test_the_first_step_builds_kernels_and_tells_nothing() -> None:
    timings = Timings((4, 1))
    first = timings.choose()
    timings.add(first, 9.0)
    assert run(timings, {4: 0.02, 1: 0.05}, 10).count(4) >= 7


def test_other_threads_keep_their_number() -> None:
    own = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        count, seen = ThreadCount(most=3), []

        def steps() -> None:
            for _ in range(3):
                with count.step(1):
                    seen.append(torch.get_num_threads())

        thread = threading.Thread(target=steps)
        thread.start()
        thread.join()
        assert set(seen) == {3, 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(own)
