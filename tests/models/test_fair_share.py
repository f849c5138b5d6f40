"""The one rule of both schedulers: who runs least goes first, and nobody takes every place."""

import asyncio
from contextlib import AsyncExitStack

from app.models.backends.llama_cpp.admission import Admission
from app.models.fair_share import admission_order


def order(waiting: str, running: str = "", limit: int = 8) -> str:
    """Each letter is a request of the visitor of that name."""
    return "".join(admission_order(waiting, running, lambda letter: letter, limit))


def test_visitors_take_turns_the_least_busy_first() -> None:
    assert order("aaaab") == "abaaa"
    assert order("aab", running="bb") == "aab"
    assert order("ba") == "ba", "between equals who came first"
    assert order("") == ""


def test_nobody_takes_more_than_the_limit() -> None:
    assert order("aaaa", limit=3) == "aaa"
    assert order("aaab", running="aaa", limit=3) == "b"


def test_a_slot_stays_free_for_a_newcomer_and_who_waits_is_told_behind_how_many() -> None:
    async def visit() -> None:
        admission = Admission(slots=3, cache_tokens=100)
        held = [asyncio.create_task(hold(admission, "greedy", 10, number)) for number in range(4)]
        await asyncio.sleep(0)
        assert [admission.waiting_before(number) for number in range(4)] == [0, 0, 0, 1]
        async with asyncio.timeout(30), admission.slot("modest", 10):
            assert not any(task.done() for task in held)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(visit())


def test_a_request_waits_until_its_tokens_fit_the_cache() -> None:
    async def visit() -> None:
        admission = Admission(slots=9, cache_tokens=100)
        async with AsyncExitStack() as first:
            await first.enter_async_context(admission.slot("a", 70))
            second = asyncio.create_task(hold(admission, "b", 10**6, "second"))
            await asyncio.sleep(0)
            third = asyncio.create_task(hold(admission, "c", 5, "third"))
            await asyncio.sleep(0)
            assert admission.waiting_before("third") == 1, "nobody overtakes a large one, or it would starve"
        async with asyncio.timeout(30):
            while admission.waiting_before("third"):
                await asyncio.sleep(0)
        second.cancel()
        third.cancel()
        await asyncio.gather(second, third, return_exceptions=True)

    asyncio.run(visit())


async def hold(admission: Admission, visitor: str, tokens: int, request: object) -> None:
    async with admission.slot(visitor, tokens, request):
        await asyncio.Event().wait()
