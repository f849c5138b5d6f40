"""The API over HTTP, by the real `openai` client: streams, errors in its own classes, keys, clients that go."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.access.api_keys import read_keys
from app.api.authentication import Authentication
from app.api.embeddings import DocumentModels, EmbeddingRoutes
from app.api.routes import Api, api_routes
from app.errors import DoesNotFit, EngineFailed, PromptTooLong, StudioError
from app.models.interface import Message
from app.models.registry.metering import Allowance
from tests.able_model import AbleModel
from tests.api.metered import Metered
from tests.fakes import FakeModel, FakeRegistry
from tests.served_app import served
from tests.waiting import wait_for

TOO_LONG = "context_length_exceeded"  # its sentence has the words that client libraries look for
HELLO: list[dict[str, str]] = [{"role": "user", "content": "hello there"}]


@contextmanager
def serving(
    registry: FakeRegistry,
    keys: str = "",
    needs_key: bool = False,
    may_use: Callable[[str, str], bool] = lambda _model, _owner: True,
    models: DocumentModels | None = None,
) -> Iterator[str]:
    callers = Authentication(read_keys(keys), needs_key)
    routes = api_routes(Api(registry, callers, may_use, comment_seconds=0.05), EmbeddingRoutes(callers, models))
    app = Starlette(routes=[*routes, Route("/alive", lambda _: PlainTextResponse("yes"))])
    with served(app, lifespan="off") as address:
        yield f"{address}/v1"


@contextmanager
def client(url: str, key: str = "none") -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as made:
        yield made


def failing(error: Exception, after: int = 0) -> Callable[[Sequence[Message]], Iterator[str]]:
    def script(_: Sequence[Message]) -> Iterator[str]:
        yield from ["some "] * after
        raise error

    return script  # type: ignore[return-value]


@pytest.mark.parametrize(("effort", "thinks"), [(None, True), ("none", False)])
def test_a_model_that_always_reasons_does_so_before_an_answer_that_keeps_to_a_schema(
    effort: str | None, thinks: bool
) -> None:
    model = AbleModel("tiny")
    model.thinking = "always"
    form: Any = {"type": "json_object"}
    more: Any = {} if effort is None else {"reasoning_effort": effort}
    with serving(FakeRegistry(model)) as url, client(url) as api:
        made = api.chat.completions.create(model="tiny", messages=HELLO, response_format=form, **more)
    assert made.choices[0].message.content == "{}" and model.prompts[0][1].thinking is thinks


def test_a_whole_answer_with_its_usage() -> None:
    model = FakeModel("tiny")
    with serving(FakeRegistry(model)) as url, client(url) as api:
        made = api.chat.completions.create(model="tiny", messages=HELLO, temperature=0.5, seed=7, max_tokens=9)
    assert made.choices[0].message.content == "You said: hello there"
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (2, 4, 6)
    messages, sampling, visitor = model.prompts[0]
    assert messages == HELLO
    assert (sampling.temperature, sampling.seed, sampling.max_new_tokens) == (0.5, 7, 9)
    assert visitor == "address 127.0.0.1/32"


def test_a_stream_comes_in_pieces_and_ends_with_the_usage() -> None:
    gate = threading.Semaphore(0)
    with serving(FakeRegistry(FakeModel("tiny", gate=gate))) as url, client(url) as api:
        gate.release(1)
        stream = api.chat.completions.create(
            model="tiny", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [next(stream), next(stream)]  # the second piece is not there yet
        gate.release(10)
        chunks += list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(text or "" for text in texts) == "You said: hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 6
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_answers_come_side_by_side() -> None:
    model = FakeModel("tiny")
    with serving(FakeRegistry(model)) as url, client(url) as api:
        made = api.chat.completions.create(model="tiny", messages=HELLO, n=3, seed=5)
        chunks = list(
            api.chat.completions.create(
                model="tiny", messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
            )
        )
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    assert {choice.message.content for choice in made.choices} == {"You said: hello there"}
    assert made.usage is not None and (made.usage.prompt_tokens, made.usage.completion_tokens) == (2, 12)
    assert sorted(sampling.seed or 0 for _, sampling, _ in model.prompts[:3]) == [5, 6, 7]
    for index in (0, 1):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == index]
        assert "".join(choice.delta.content or "" for choice in own) == "You said: hello there"
        assert own[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 8


def test_comments_keep_a_stream_open_until_the_first_token() -> None:
    gate = threading.Semaphore(0)
    with serving(FakeRegistry(FakeModel("tiny", gate=gate))) as url, httpx.Client(timeout=120) as asking:
        body = {"model": "tiny", "messages": HELLO, "stream": True}
        with asking.stream("POST", f"{url}/chat/completions", json=body) as response:
            lines = response.iter_lines()
            assert [next(lines) for _ in range(3)] == [": waiting", "", ": waiting"]
            gate.release(10)
            rest = list(lines)
    assert rest[-2] == "data: [DONE]"
    assert any("hello" in line for line in rest)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_ends_the_answer(stream: bool) -> None:
    gate = threading.Semaphore(2)
    model = FakeModel("tiny", gate=gate)
    registry = FakeRegistry(model)
    with serving(registry) as url:
        body = {"model": "tiny", "messages": HELLO, "stream": stream}

        async def ask_and_go() -> None:
            async with httpx.AsyncClient(timeout=120) as asking:
                asked = asyncio.create_task(asking.post(f"{url}/chat/completions", json=body))
                while not model.generations:
                    await asyncio.sleep(0.01)
                asked.cancel()

        asyncio.run(ask_and_go())
        assert model.generations[0].cancelled.wait(120)
        wait_for(lambda: not registry.leases["tiny"])


def test_waiting_answers_do_not_keep_the_event_loop() -> None:
    gate = threading.Semaphore(0)
    model = FakeModel("tiny", gate=gate)

    async def ask(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as api:
            asked = [asyncio.create_task(api.chat.completions.create(model="tiny", messages=HELLO)) for _ in range(50)]
            while len(model.generations) < 50:
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient() as other:
                assert (await other.get(url.removesuffix("v1") + "alive")).text == "yes"
            gate.release(500)
            for made in await asyncio.gather(*asked):
                assert made.choices[0].message.content == "You said: hello there"

    with serving(FakeRegistry(model)) as url:
        asyncio.run(ask(url))


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (PromptTooLong(tokens=9, limit=4), openai.BadRequestError, TOO_LONG),
        (DoesNotFit(name="tiny", needed_mib=9, free_mib=4), openai.InternalServerError, "model_unavailable"),
        (EngineFailed(), openai.InternalServerError, "engine_failed"),
        (ValueError("a bug with /secret/path"), openai.InternalServerError, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_the_first_word_has_a_status(
    error: Exception, expected: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    with (
        serving(FakeRegistry(FakeModel("tiny", script=failing(error)))) as url,
        client(url) as api,
        pytest.raises(expected) as raised,
    ):
        api.chat.completions.create(model="tiny", messages=HELLO, stream=stream)
    assert raised.value.code == code
    assert "/secret/path" not in str(raised.value)
    told = "This model's maximum context length is 4 tokens, but the prompt has 9" if code == TOO_LONG else str(error)
    assert told in str(raised.value) or not isinstance(error, StudioError)


def test_what_fails_later_ends_the_stream_with_an_error() -> None:
    with serving(FakeRegistry(FakeModel("tiny", script=failing(EngineFailed(), after=2)))) as url, client(url) as api:
        stream = api.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        texts = []
        with pytest.raises(openai.APIError, match="engine failed"):
            for chunk in stream:
                texts.append(chunk.choices[0].delta.content)
    assert "".join(text or "" for text in texts) == "some some "


def test_errors_are_in_openais_form() -> None:
    with serving(FakeRegistry(FakeModel("tiny"))) as url, client(url) as api:
        with pytest.raises(openai.NotFoundError) as missing:
            api.chat.completions.create(model="huge", messages=HELLO)
        with pytest.raises(openai.BadRequestError) as refused:
            api.chat.completions.create(model="tiny", messages=HELLO, logprobs=True)
        plain = httpx.post(
            f"{url}/chat/completions", content=b'{"model": "tiny"}', headers={"content-type": "text/plain"}
        )
        chinese = httpx.post(f"{url}/chat/completions", json={"model": "tiny"}, headers={"accept-language": "zh-CN"})
        large = httpx.post(f"{url}/chat/completions", json={"model": "x" * 17_000_000})
    assert missing.value.code == "model_not_found"
    assert refused.value.body == {
        "message": "The model tiny does not support the parameter logprobs. Leave it out, or choose another model.",
        "type": "invalid_request_error",
        "param": "logprobs",
        "code": "unsupported_parameter",
    }
    assert (plain.status_code, large.status_code) == (400, 413)
    assert "参数 messages" in chinese.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("POST", "/assistants", 404, "unknown_url"),
        ("GET", "", 404, "unknown_url"),
        ("GET", "/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/models/tiny", 405, "method_not_allowed"),
        ("GET", "/models/huge", 404, "model_not_found"),
        ("GET", "/models/%ED%A0%BD", 404, "model_not_found"),
        ("GET", "/models/%0A%C3%98", 404, "model_not_found"),  # a line's end is a character, too
        ("PROPFIND", "/models", 405, "method_not_allowed"),
        ("LINK", "/no%0Athing", 404, "unknown_url"),
        ("GET", "/models/", 200, ""),
        ("GET", "/models/tiny/", 200, ""),
        ("POST", "/chat/completions/", 200, ""),
    ],
)
def test_every_path_answers_in_openais_form(method: str, path: str, status: int, code: str) -> None:
    with serving(FakeRegistry(FakeModel("tiny"))) as url:
        body = {"model": "tiny", "messages": HELLO} if method == "POST" else None
        answer = httpx.request(method, url + path, json=body)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]


def test_without_a_right_key_nothing_is_told() -> None:
    model = FakeModel("tiny")
    with serving(FakeRegistry(model), keys="ada:sesame") as url:
        for key in ("wrong", "ada", "none"):
            with client(url, key) as api:
                with pytest.raises(openai.AuthenticationError) as refused:
                    api.models.list()
                with pytest.raises(openai.AuthenticationError):
                    api.chat.completions.create(model="tiny", messages=HELLO)
            assert refused.value.code == "invalid_api_key"
        with client(url, "sesame") as api:
            api.chat.completions.create(model="tiny", messages=HELLO)
    assert [visitor for _, _, visitor in model.prompts] == ["ada"]


def test_a_server_with_logins_and_no_keys_lets_no_program_in() -> None:
    with (
        serving(FakeRegistry(FakeModel("tiny")), needs_key=True) as url,
        client(url) as api,
        pytest.raises(openai.AuthenticationError),
    ):
        api.models.list()


def test_tuned_models_are_there_for_their_owner_only() -> None:
    registry = FakeRegistry(FakeModel("tiny"), FakeModel("tiny+hers"), FakeModel("org/other"))

    def may_use(model: str, owner: str) -> bool:
        return "+hers" not in model or owner == "ada"

    with serving(registry, keys="ada:one", may_use=may_use) as url, client(url, "one") as api:
        assert [model.id for model in api.models.list()] == ["tiny", "tiny+hers", "org/other"]
        assert api.models.retrieve("org/other").id == "org/other"
        made = api.chat.completions.create(model="tiny+hers", messages=HELLO)
        assert made.model == "tiny+hers"
    with serving(registry, keys="lin:two", may_use=may_use) as url, client(url, "two") as api:
        assert [model.id for model in api.models.list()] == ["tiny", "org/other"]
        for ask in (
            lambda: api.models.retrieve("tiny+hers"),
            lambda: api.chat.completions.create(model="tiny+hers", messages=HELLO),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()


def test_who_asks_for_too_much_is_told_when_to_come_back() -> None:
    with serving(Metered(allowance=Allowance(tokens_per_minute=1))) as url, client(url) as asking:
        asking.chat.completions.create(model="tiny", messages=HELLO)  # type: ignore[arg-type]
        with pytest.raises(openai.RateLimitError, match="1 tokens") as refused:
            asking.chat.completions.create(model="tiny", messages=HELLO)  # type: ignore[arg-type]
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


def test_who_asks_many_things_at_once_waits_for_his_own_answers() -> None:
    gate = threading.Semaphore(0)
    model = FakeModel("tiny", gate=gate)

    async def ask(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as api:
            asked = [asyncio.create_task(api.chat.completions.create(model="tiny", messages=HELLO)) for _ in range(6)]
            while len(model.generations) < 2:
                await asyncio.sleep(0.01)
            gate.release(500)
            for made in await asyncio.gather(*asked):
                assert made.choices[0].message.content == "You said: hello there"

    with serving(Metered(model, allowance=Allowance(requests_at_once=2))) as url:
        asyncio.run(ask(url))
    assert len(model.generations) == 6
