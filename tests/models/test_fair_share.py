"""The one rule of all schedulers: work is shared evenly between visitors, and nobody takes every place."""

import asyncio
import itertools
from contextlib import AsyncExitStack

from app.models.backends.llama_cpp.admission import Admission
from app.models.fair_share import ANSWER_COST, FORESEEN, FairQueue, admitted, places_of_one


def test_a_short_request_passes_long_ones_and_a_long_one_waits_for_its_share_only() -> None:
    queue, served = FairQueue(), []
    waiting = [(queue.turn(name, 100, 0), name) for name in ("long a", "long b")]
    for number in itertools.count():
        waiting.append((queue.turn(f"short {number}", 10, 0), f"short {number}"))
        turn, name = min(waiting)
        waiting.remove((turn, name))
        queue.served(turn)
        served.append(name)
        if name == "long b":
            break
    assert served[0] == "short 0", "it came last and is shorter"
    # another short one comes each time: the two long ones are begun when as much of others was served as each asks for
    assert served[9:] == ["long a", "long b"]


def test_equal_requests_of_visitors_take_turns_and_what_is_written_counts_for_more_than_what_is_read() -> None:
    queue = FairQueue()
    turns = [(queue.turn(name, 10, 5), name, number) for number, name in enumerate("aaab")]
    assert [(name, number) for _, name, number in sorted(turns)] == [("a", 0), ("b", 3), ("a", 1), ("a", 2)]
    assert queue.turn("c", ANSWER_COST, 1) == queue.turn("d", 0, 2) == queue.turn("e", 2 * ANSWER_COST, 0)


def test_a_prompt_that_is_read_in_parts_moves_the_clock_by_what_was_read() -> None:
    queue = FairQueue()
    long = queue.turn("long", 1000, 0)
    queue.served(long, unread_tokens=744)
    assert queue.turn("short", 30, 0).due == 286, "before the rest of the long one"
    queue.served(long)
    assert queue.turn("late", 30, 0).due == 1030
    assert queue.turn("long", 30, 0).due == 1030, "who waited for an answer before asking again is nobody's debtor"


def test_an_answer_is_charged_as_long_as_it_gets_not_as_long_as_it_may_get() -> None:
    queue = FairQueue()
    may_be_long = queue.turn("agent", 10, 4000)
    assert may_be_long == queue.turn("other", 10, FORESEEN)
    queue.ended(may_be_long, 5)
    assert queue.turn("agent", 10, 5).due == may_be_long.due + 10 + 5 * ANSWER_COST
    told_a_lot = queue.turn("teller", 10, 4000)
    for written in (FORESEEN + 20, FORESEEN + 50):  # it was put back for want of memory, and went on
        queue.ended(told_a_lot, written)
    due_next = told_a_lot.due + 50 * ANSWER_COST + 10
    assert queue.turn("teller", 10, 0).due == due_next
    queue.served(queue.turn("many others", round(due_next) * 2, 0))
    assert queue.turn("teller", 10, 0) == queue.turn("newcomer", 10, 0), "others have had their share since"


def test_nobody_takes_more_than_the_limit() -> None:
    def started(waiting: str, running: str = "") -> str:
        return "".join(admitted(waiting, running, lambda letter: letter, 3))

    assert started("aaaa") == "aaa"
    assert started("aaab", running="aaa") == "b"
    assert started("abab", running="a") == "abab"


def test_half_of_the_places_is_for_one_while_others_wait_and_some_stay_free_else() -> None:
    assert [places_of_one(places, 2) for places in (1, 4, 32, 256)] == [1, 2, 16, 128]
    assert [places_of_one(places, 1) for places in (1, 4, 32, 256)] == [1, 3, 28, 224]


def test_a_slot_stays_free_for_a_newcomer_and_who_waits_is_told_behind_how_many() -> None:
    async def visit() -> None:
        admission = Admission(slots=3, cache_tokens=100)
        await greedy_and_modest(admission, tokens=10, waiting=[0, 0, 1, 2])

    asyncio.run(visit())


def test_a_part_of_the_cache_stays_free_for_a_newcomer() -> None:
    async def visit() -> None:
        admission = Admission(slots=9, cache_tokens=160)
        await greedy_and_modest(admission, tokens=40, waiting=[0, 0, 0, 1])
        async with asyncio.timeout(30), admission.slot("alone", 150, 10):
            pass  # who asks for one thing may fill it all

    asyncio.run(visit())


def test_a_request_waits_until_its_tokens_fit_the_cache() -> None:
    async def visit() -> None:
        admission = Admission(slots=9, cache_tokens=100)
        async with AsyncExitStack() as first:
            await first.enter_async_context(admission.slot("a", 70, 0))
            second = asyncio.create_task(hold(admission, "b", 60, "second"))
            await asyncio.sleep(0)
            third = asyncio.create_task(hold(admission, "c", 90, "third"))
            await asyncio.sleep(0)
            assert admission.ahead_of("third") == 2
            fourth = asyncio.create_task(hold(admission, "d", 5, "fourth"))
            await asyncio.sleep(0)
            assert admission.ahead_of("third") == 2, "what is short and fits need not wait"
        async with asyncio.timeout(30):
            while admission.ahead_of("third") > 1:
                await asyncio.sleep(0)
        for task in (second, third, fourth):
            task.cancel()
        await asyncio.gather(second, third, fourth, return_exceptions=True)

    asyncio.run(visit())


def test_a_short_request_is_next_before_long_answers_that_wait() -> None:
    async def visit() -> list[str]:
        admission, begun = Admission(slots=2, cache_tokens=10**6), []

        async def answer(name: str, tokens: int) -> None:
            async with admission.slot(name, 20, tokens, name):
                begun.append(name)
                await asyncio.sleep(0)

        longs = [answer(f"agent {number}", 700) for number in range(6)]
        await asyncio.gather(*longs, answer("short", 8))
        return begun

    assert asyncio.run(visit()).index("short") == 2, "only those that ran already were before it"


def test_who_has_got_a_long_answer_is_behind_who_has_not() -> None:
    async def visit() -> None:
        admission = Admission(slots=2, cache_tokens=10**6)
        async with asyncio.timeout(30), admission.slot("teller", 10, 4000, written=lambda: 900):
            pass
        tasks = [
            asyncio.create_task(hold(admission, visitor, tokens, name))
            for visitor, tokens, name in (("a", 10, "a"), ("b", 10, "b"), ("teller", 10, "again"), ("c", 3000, "c"))
        ]
        await asyncio.sleep(0)
        assert [admission.ahead_of(name) for name in ("a", "b", "c", "again")] == [0, 0, 1, 2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(visit())


async def greedy_and_modest(admission: Admission, tokens: int, waiting: list[int]) -> None:
    """One visitor asks four times at once, and another is let in all the same; `waiting`: behind how many each is."""
    held = [asyncio.create_task(hold(admission, "greedy", tokens, number)) for number in range(4)]
    await asyncio.sleep(0)
    assert [admission.ahead_of(number) for number in range(4)] == waiting
    async with asyncio.timeout(30), admission.slot("modest", tokens, 0):
        assert not any(task.done() for task in held)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def hold(admission: Admission, visitor: str, tokens: int, request: object) -> None:
    async with admission.slot(visitor, tokens, 0, request):
        await asyncio.Event().wait()
