"""The API of a running server with the packaged model, by the programs that people use it with."""

import asyncio
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from app.models.backends.openai_server.address import EngineAddress
from app.models.interface import Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.real_server import LOGINS, RealServer
from tests.waiting import wait_for

NAME = "smollm2-135m"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."


@pytest.fixture
def address(login_server: RealServer) -> str:
    return login_server.address


@pytest.fixture
def key(login_server: RealServer) -> str:
    return login_server.key


@pytest.fixture
def api(address: str, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as client:
        yield client


def test_the_openai_client_chats_streams_and_lists(api: openai.OpenAI) -> None:
    assert NAME in [model.id for model in api.models.list()]
    asked = {"model": NAME, "messages": [{"role": "user", "content": FRANCE}], "temperature": 0, "max_tokens": 24}
    whole = api.chat.completions.create(**asked)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (PARIS, "stop")
    chunks = list(api.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == PARIS
    assert len([text for text in texts if text]) > 3
    assert chunks[-1].usage == whole.usage
    short = api.chat.completions.create(**{**asked, "max_tokens": 2})
    assert (short.choices[0].finish_reason, short.usage and short.usage.completion_tokens) == ("length", 2)
    assert api.chat.completions.create(**asked, stop=["France"]).choices[0].message.content == "The capital of "


def test_log_probabilities_are_those_of_the_answer(api: openai.OpenAI) -> None:
    asked = {"model": NAME, "messages": [{"role": "user", "content": FRANCE}], "temperature": 0, "max_tokens": 24}
    whole = api.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
    assert whole.logprobs is not None and whole.logprobs.content is not None
    assert "".join(token.token for token in whole.logprobs.content) == whole.message.content == PARIS
    for token in whole.logprobs.content:
        assert token.logprob <= 0
        assert (token.top_logprobs[0].token, token.top_logprobs[0].logprob) == (token.token, token.logprob)
        assert token.bytes == list(token.token.encode())
        assert len(token.top_logprobs) == 2
    told = [
        [token.token for token in chunk.choices[0].logprobs.content or []]
        for chunk in api.chat.completions.create(**asked, logprobs=True, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
    ]
    assert len(told) > 3, "in the chunks of their texts"
    assert [token for tokens in told for token in tokens] == [token.token for token in whole.logprobs.content]
    assert len(whole.logprobs.content) == 8, "the end of the answer is a token, too"


def test_the_same_seed_draws_the_same_answer(api: openai.OpenAI) -> None:
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Name an animal."}], "temperature": 1.5}
    texts = [
        api.chat.completions.create(**asked, seed=seed, max_tokens=8).choices[0].message.content for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_closed_stream_ends_the_work(api: openai.OpenAI, address: str) -> None:
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Tell me a long story."}], "max_tokens": 7000}
    stream = api.chat.completions.create(**asked, stream=True)
    next(stream)
    stream.close()
    client = Client(address, verbose=False, auth=LOGINS[0])

    def leases() -> int:
        return int(next(m for m in client.predict(api_name="/models")["models"] if m["name"] == NAME)["leases"])

    wait_for(lambda: not leases(), 60)  # 7,000 tokens would take longer


def test_what_is_too_long_or_unknown_is_an_error_of_the_clients_own(api: openai.OpenAI, address: str) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        api.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "word " * 9000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        api.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hi"}])
    assert httpx.get(f"{address}/v1/models").status_code == 401


def test_another_studio_can_use_it_as_an_engine(address: str, key: str, tmp_path: Path) -> None:
    engines = {"far": EngineAddress("far", (f"{address}/v1",), NAME, key)}
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, tmp_path), "far", engines=engines)
    with registry.lease("far") as model:
        stream = model.stream([{"role": "user", "content": FRANCE}], Sampling(temperature=0, max_new_tokens=24))
        assert "".join(stream) == PARIS
        assert (stream.prompt_tokens, stream.completion_tokens) == (37, 8)
    registry.close()


def test_an_mcp_client_finds_and_uses_the_tools(address: str, key: str) -> None:
    async def use() -> None:
        async with (
            httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=120) as http,
            streamable_http_client(f"{address}/mcp", http_client=http) as (incoming, outgoing, _),
            ClientSession(incoming, outgoing) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            documents = {"list_collections", "search_documents", "ask_documents"}
            assert {"list_models", "chat", "solve_with_python", "run_python", *documents} == set(tools)
            assert all(len(tool.description or "") > 60 for tool in tools.values())
            asked = tools["chat"].inputSchema["properties"]
            assert set(asked) == {"message", "system", "model", "temperature", "max_new_tokens", "seed"}
            assert all(asked[name]["description"] for name in asked)
            said = await session.call_tool("chat", {"message": FRANCE, "temperature": 0, "max_new_tokens": 24})
            assert said.content[0].text == PARIS
            wrong = await session.call_tool("chat", {"message": FRANCE, "model": "no-such-model"})
            assert wrong.isError and "no model named no-such-model" in wrong.content[0].text
        assert httpx.post(f"{address}/mcp", json={}).status_code == 401

    asyncio.run(use())


def lm_eval(folder: Path, model: str, where: str, lines: list[dict[str, Any]], **task: object) -> dict[str, float]:
    """The metrics of a task of one's own, as lm-evaluation-harness gives them."""
    from lm_eval.api.registry import get_model  # takes its time
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    (folder / "capitals.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = {"data_files": {"test": str(folder / "capitals.jsonl")}, "cache_dir": str(folder / "cache")}
    described = {"task": "capitals", "dataset_path": "json", "test_split": "test", "dataset_kwargs": data, **task}
    with warnings.catch_warnings(action="ignore"):
        tasks = TaskManager(include_defaults=False).load([described])
        asking = get_model(model).create_from_arg_string(where)
        results = evaluate(asking, tasks, apply_chat_template="chat" in model, bootstrap_iters=0)
    return dict(results["results"]["capitals"])


def test_lm_eval_scores_a_task_over_it(address: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    questions = [(FRANCE, PARIS), ("What is the capital of Japan?", "It is not told.")]
    results = lm_eval(
        tmp_path,
        "local-chat-completions",
        f"model={NAME},base_url={address}/v1/chat/completions,num_concurrent=2,max_retries=1",
        [{"question": question, "answer": answer} for question, answer in questions],
        output_type="generate_until",
        doc_to_text="{{question}}",
        doc_to_target="{{answer}}",
        generation_kwargs={"until": ["\n\n"], "max_gen_toks": 24, "temperature": 0},
        metric_list=[{"metric": "exact_match"}],
    )
    assert results["exact_match,none"] == 0.5


def test_lm_eval_compares_likelihoods_over_it(
    address: str, key: str, packaged_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    results = lm_eval(
        tmp_path,
        "local-completions",
        f"model={NAME},base_url={address}/v1/completions,tokenizer={packaged_folder},max_retries=1",
        [{"place": "France", "gold": 0}, {"place": "Germany", "gold": 1}],
        output_type="multiple_choice",
        doc_to_text="The capital of {{place}} is",
        doc_to_choice=["Paris", "Berlin"],
        doc_to_target="gold",
        metric_list=[{"metric": "acc"}],
    )
    assert results["acc,none"] == 1.0
