"""The MCP tools by a real client: what each is for, the sandbox behind them, stops, and whom they let in."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from mcp.shared.session import ProgressFnT
from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification

from app.access.identity import Login, guest_of
from app.access.session_limits import SessionLimits
from app.api.mcp_sessions import MOST_PER_OWNER
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner
from app.models.interface import Message
from app.models.registry.metering import Allowance
from tests.api.mcp_client import PATIENCE, Serving, session_at
from tests.api.metered import Metered
from tests.fakes import FakeModel, FakeRegistry
from tests.knowledge.leases import lease_of
from tests.knowledge.words import WordEmbedder


def capable(messages: list[Message]) -> list[str]:
    """Plays a model that writes code first and answers from its output."""
    if messages[-1]["content"].startswith("Output:"):
        return ["The sum is ", messages[-1]["content"].split()[-1], "."]
    return ["I add them up.\n", "```python\nprint(sum(range(1, 11)))\n```\n"]


def test_a_task_is_solved_in_the_sandbox_and_code_runs_afresh(folder: Path, serving: Serving) -> None:

    async def use(url: str) -> None:
        async with session_at(url) as session:
            assert "run_python" in [tool.name for tool in (await session.list_tools()).tools]
            solved = await session.call_tool("solve_with_python", {"task": "Add 1 to 10."})
            assert [block.text.split("\n")[0] for block in solved.content] == [
                "[thought]",
                "[code]",
                "[output]",
                "[answer]",
            ]
            assert solved.content[-1].text == "[answer]\nThe sum is 55."
            assert solved.structuredContent["steps"][-1] == {"kind": "answer", "text": "The sum is 55."}
            first = await session.call_tool("run_python", {"code": "x = 6 * 7\nprint(x)"})
            assert first.content[0].text == "[output]\n42"
            second = await session.call_tool("run_python", {"code": "print(x)"})
            assert "NameError" in second.content[0].text
            drawn = await session.call_tool(
                "run_python", {"code": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"}
            )
            assert [(block.type, block.mimeType) for block in drawn.content] == [("image", "image/png")]
            assert [step["kind"] for step in drawn.structuredContent["steps"]] == ["image"]

    with serving(FakeRegistry(FakeModel("tiny", script=capable)), folder, interpreter=True) as url:
        asyncio.run(use(url))


def test_a_task_counts_as_a_page_while_it_runs(folder: Path, serving: Serving) -> None:
    sessions, model = SessionLimits(1), FakeModel("tiny", script=capable)
    file = folder / "keys"
    file.write_text("ada:one\n")

    async def use(url: str) -> None:
        async with session_at(url, "one") as session:
            sessions.enter(Login("ada"), "a page of the same visitor")
            for tool, arguments in (("solve_with_python", {"task": "Add 1 to 10."}), ("run_python", {"code": "1"})):
                refused = await session.call_tool(tool, arguments)
                assert "1 of your pages hold" in refused.content[0].text
            sessions.leave("a page of the same visitor")
            for _ in range(2):
                solved = await session.call_tool("solve_with_python", {"task": "Add 1 to 10."})
                assert solved.content[-1].text == "[answer]\nThe sum is 55."

    with serving(FakeRegistry(model), folder, interpreter=True, keys=str(file), sessions=sessions) as url:
        asyncio.run(use(url))
    assert len(model.prompts) == 4


def test_without_logins_nobody_runs_plain_code(folder: Path, serving: Serving) -> None:
    async def use(url: str) -> None:
        async with session_at(url) as session:
            assert "run_python" not in [tool.name for tool in (await session.list_tools()).tools]
            refused = await session.call_tool("run_python", {"code": "print(1)"})
            assert refused.isError and "42" not in refused.content[0].text

    with serving(FakeRegistry(FakeModel("tiny")), folder) as url:
        asyncio.run(use(url))


def test_twelve_clients_at_once_are_answered_and_told_how_far_it_is(folder: Path, serving: Serving) -> None:
    gate = threading.Semaphore(0)
    model = FakeModel("tiny", gate=gate)
    registry = Metered(model, allowance=Allowance(requests_at_once=8))

    async def ask(url: str) -> tuple[str, list[float]]:
        told: list[float] = []

        async def progress(done: float, *_: object) -> None:
            told.append(done)

        async with session_at(url) as session:
            said = await session.call_tool("chat", {"message": "hello"}, progress_callback=progress)
            return said.content[0].text, told

    async def use(url: str) -> list[tuple[str, list[float]]]:
        asked = [asyncio.create_task(ask(url)) for _ in range(12)]
        while len(model.generations) < 8:
            await asyncio.sleep(0.01)
        gate.release(200)
        return await asyncio.gather(*asked)

    with serving(registry, folder) as url:
        answers = asyncio.run(use(url))
    assert {text for text, _ in answers} == {"You said: hello"}
    assert all(told and told[0] == 1 for _, told in answers)


def opened_after(gate: threading.Semaphore, notifications: int) -> ProgressFnT:
    """Lets a model go on once that much progress was told."""
    told: list[float] = []

    async def progress(done: float, *_: object) -> None:
        told.append(done)
        assert told == sorted(set(told)), "it grows"
        if len(told) == notifications:
            gate.release(1000)

    return progress


@pytest.mark.parametrize(("tool", "asked"), [("chat", "message"), ("solve_with_python", "task")])
def test_a_call_that_is_silent_for_long_says_that_it_goes_on(
    folder: Path, serving: Serving, tool: str, asked: str
) -> None:
    gate = threading.Semaphore(0)

    async def use(url: str) -> str:
        async with session_at(url) as session:
            wait = opened_after(gate, 3)
            said = await session.call_tool(tool, {asked: "hello"}, PATIENCE, progress_callback=wait)
            return said.content[-1].text

    with serving(FakeRegistry(FakeModel("tiny", gate=gate)), folder, alive_seconds=0.02) as url:
        assert "You said: hello" in asyncio.run(use(url))


def test_sessions_that_are_left_open_shut_nobody_out(folder: Path, serving: Serving) -> None:
    """The oldest of an owner's own ends, and another's session is none to him."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    ask = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

    def post(url: str, key: str, body: object, session: str = "") -> httpx.Response:
        headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {key}"}
        return httpx.post(url, json=body, headers={**headers, "mcp-session-id": session} if session else headers)

    file = folder / "keys"
    file.write_text("ada:one\nlin:two\n")
    with serving(FakeRegistry(FakeModel("tiny")), folder, keys=str(file)) as url:
        other = post(url, "two", hello).headers["mcp-session-id"]
        opened = [post(url, "one", hello).headers["mcp-session-id"] for _ in range(MOST_PER_OWNER + 1)]
        assert post(url, "one", ask, opened[0]).status_code == 404
        assert post(url, "one", ask, opened[-1]).status_code == 200
        assert post(url, "one", ask, other).status_code == 404
        assert post(url, "two", ask, other).status_code == 200


def test_a_cancelled_call_ends_the_answer(folder: Path, serving: Serving) -> None:
    gate = threading.Semaphore(1)
    model = FakeModel("tiny", gate=gate)

    async def use(url: str) -> None:
        async with session_at(url) as session:
            call = asyncio.create_task(session.call_tool("chat", {"message": "hello there"}))
            while not model.generations or not model.generations[0].completion_tokens:
                await asyncio.sleep(0.01)
            told = CancelledNotification(params=CancelledNotificationParams(requestId=1))  # 0 was the greeting
            await session.send_notification(ClientNotification(told))
            await asyncio.to_thread(model.generations[0].cancelled.wait, 20)
            assert model.generations[0].cancelled.is_set()
            call.cancel()

    with serving(FakeRegistry(model), folder) as url:
        asyncio.run(use(url))


def test_tuned_models_are_listed_to_their_owner_only(folder: Path, serving: Serving) -> None:
    registry = FakeRegistry(FakeModel("tiny"), FakeModel("tiny+hers"))

    async def use(url: str) -> None:
        for key, seen in (("one", ["tiny", "tiny+hers"]), ("two", ["tiny"])):
            async with session_at(url, key) as session:
                listed = await session.call_tool("list_models", {})
                assert [block.text for block in listed.content] == seen
                asked = await session.call_tool("chat", {"message": "hi", "model": "tiny+hers"})
                assert asked.isError is (key == "two")

    file = folder / "keys"
    file.write_text("ada:one\nlin:two\n")
    with serving(registry, folder, keys=str(file)) as url:
        asyncio.run(use(url))
        assert httpx.post(url, json={}).status_code == 401


def test_documents_are_searched_and_asked_by_those_who_may_read_them(folder: Path, serving: Serving) -> None:
    gate = threading.Semaphore(0)
    model = FakeModel("tiny", script=lambda _: ["4 比特量化把显存降到三成。大象会飞[1]。"], gate=gate)
    registry = FakeRegistry(model)
    knowledge = KnowledgeService(registry, folder, embedder="words", lease_embedder=lease_of(lambda _: WordEmbedder()))
    note = folder / "note.md"
    note.write_text("# 第二周\n\n## 量化\n\n4 比特量化把显存降到三成。\n", encoding="utf-8")
    ada = Owner("ada")
    knowledge.make(ada, "notes")
    list(knowledge.index_uploads(ada, "notes", [(note, "note.md")]))

    async def use(url: str) -> None:
        async with session_at(url, "one") as session:
            listed = await session.call_tool("list_collections", {})
            assert [block.text for block in listed.content] == ["notes"]
            found = await session.call_tool("search_documents", {"query": "量化显存", "collection": "notes", "k": 1})
            passage = found.structuredContent["result"][0]
            assert (passage["source"], passage["heading"]) == ("note.md", "第二周 > 量化")
            assert "降到三成" in passage["text"]
            asked = {"question": "量化把显存降到多少？", "collection": "notes"}
            wait = opened_after(gate, 2)
            answer = (await session.call_tool("ask_documents", asked, PATIENCE, wait)).structuredContent
            assert answer["answer"] == "4 比特量化把显存降到三成[1]。大象会飞 (not found in the sources)。"
            assert answer["passages"] == [passage]
            assert "4 比特量化把显存降到三成。" in [quote["text"] for quote in answer["quotes"]]
            told = [(each["sentence"], each["verdict"], each["passage"]) for each in answer["verdicts"]]
            assert told == [("4 比特量化把显存降到三成。", "supported", 1), ("大象会飞。", "not found", None)]
        async with session_at(url, "two") as session:
            for tool, asked in (("search_documents", {"query": "量化"}), ("ask_documents", {"question": "量化"})):
                refused = await session.call_tool(tool, {**asked, "collection": "notes"})
                assert refused.isError and "三成" not in refused.content[0].text

    file = folder / "keys"
    file.write_text("ada:one\nlin:two\n")
    with serving(registry, folder, knowledge, keys=str(file), alive_seconds=0.02) as url:
        asyncio.run(use(url))
    knowledge.close()
    assert {visitor for _, _, visitor in model.prompts} == {"ada"}


def test_a_program_with_a_token_and_no_key_is_the_guest_of_that_token(folder: Path, serving: Serving) -> None:
    registry = FakeRegistry(FakeModel("tiny"))
    knowledge = KnowledgeService(registry, folder, embedder="words", lease_embedder=lease_of(lambda _: WordEmbedder()))
    knowledge.make(Owner(guest_of("c" * 32), guest=True), "notes")

    async def use(url: str) -> None:
        for token, seen in (("c" * 32, ["notes"]), ("d" * 32, []), ("", [])):
            async with session_at(url, token=token) as session:
                listed = await session.call_tool("list_collections", {})
                assert [block.text for block in listed.content] == seen

    with serving(registry, folder, knowledge) as url:
        asyncio.run(use(url))
        assert httpx.post(url, json={}, headers={"x-studio-visitor": "short"}).status_code == 400
    knowledge.close()


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_a_foreign_page_does_not_reach_a_server_on_this_machine(folder: Path, serving: Serving, header: str) -> None:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with serving(FakeRegistry(FakeModel("tiny")), folder) as url:
        foreign = "http://evil.example" if header == "Origin" else "evil.example"
        headers = {header: foreign, "Accept": "application/json, text/event-stream"}
        assert httpx.post(url, json=hello, headers=headers).status_code in (403, 421)
