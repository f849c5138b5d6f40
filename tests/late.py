"""Hold each step of the page's events back at random, to find races: `make test ARGS="-p tests.late -m browser"`.

As on a busy machine. A plugin of pytest; no run loads it by itself.
"""

import asyncio
import random
from typing import Any

import gradio as gr

SHARE, SECONDS = 0.35, (0.1, 1.2)  # of steps that are late, before they are taken and after; how much


def pytest_configure() -> None:
    usual, dice = gr.Blocks.process_api, random.Random(0)

    async def wait() -> None:
        if dice.random() < SHARE:
            await asyncio.sleep(dice.uniform(*SECONDS))

    async def late(*arguments: Any, **options: Any) -> dict[str, Any]:
        await wait()
        made = await usual(*arguments, **options)
        await wait()
        return made

    gr.Blocks.process_api = late  # type: ignore[method-assign]
