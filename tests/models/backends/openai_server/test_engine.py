"""A model behind a far server that plays by a script: streams, stops, replicas, and what is said when it fails."""

import base64
import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from app.errors import PromptTooLong, StudioError, UnknownModel
from app.models.backends.openai_server.address import EngineAddress, read_engines
from app.models.backends.openai_server.errors import (
    DiedMidway,
    EngineAway,
    EngineBusy,
    KeyRefused,
    NoAnswerBehindReasoning,
    NoWeightsHere,
    UnknownModelThere,
)
from app.models.engine.prompt import CannotSee
from app.models.interface import ChatModel, InspectableModel, Message, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.pictures import as_jpeg
from tests.far_server import ENDLESS, FarServer, far_server

USUAL = Sampling(temperature=0, max_new_tokens=50)


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


@contextmanager
def registry_of(
    tmp_path: Path, *urls: str, model: str = "", key: str = "", listed_only: bool = False
) -> Iterator[ModelRegistry]:
    engines = {"far": EngineAddress("far", urls, model, key)}
    where = Placement("cpu", "auto", None, 4000, tmp_path)
    registry = ModelRegistry(where, "far", listed_only=listed_only, engines=engines)
    try:
        yield registry
    finally:
        registry.close()


@pytest.fixture(scope="module")
def far() -> Iterator[FarServer]:
    models = [{"id": "internlm", "max_model_len": 60}, {"id": "lin", "parent": "internlm"}, {"id": "unrelated"}]
    answers = [["endless", ENDLESS], ["stop", "one two three four"], ["think", "because"]]
    with far_server(models=models, answers=answers, tokenizes=True) as server:
        yield server


@pytest.fixture
def registry(far: FarServer, tmp_path: Path) -> Iterator[ModelRegistry]:
    with registry_of(tmp_path, far.url, listed_only=True) as registry:
        yield registry


@pytest.fixture
def model(registry: ModelRegistry) -> Iterator[ChatModel]:
    with registry.lease("far") as model:
        yield model


def test_it_streams_and_tells_the_far_counts(model: ChatModel, far: FarServer) -> None:
    stream = model.stream(user("hello there"), Sampling(0.5, 0.8, max_new_tokens=9, seed=3, stop=("#",)))
    pieces = list(stream)
    assert "".join(pieces) == "You said: hello there"
    assert len(pieces) > 2
    assert (stream.prompt_tokens, stream.completion_tokens, stream.finish_reason) == (11, 7, "stop")
    body = far.seen()["bodies"][-1]
    asked = {key: body[key] for key in ("model", "temperature", "top_p", "max_tokens", "seed", "stop")}
    assert asked == {"model": "internlm", "temperature": 0.5, "top_p": 0.8, "max_tokens": 9, "seed": 3, "stop": ["#"]}


def test_a_server_is_asked_in_words_to_go_on_and_words_stay_apart(model: ChatModel, far: FarServer) -> None:
    begun: Message = {"role": "assistant", "content": "hello", "begun": True}
    assert "".join(model.stream([*user("hi"), begun], Sampling())).startswith(" one")
    sent = [turn["content"] for turn in far.seen()["bodies"][-1]["messages"]]
    assert sent[:2] == ["hi", "hello"] and sent[2].startswith("Continue exactly")


def test_a_stop_closes_the_far_connection(model: ChatModel, far: FarServer) -> None:
    broken = far.seen()["broken"]
    stream = model.stream(user("endless"), USUAL)
    pieces = iter(stream)
    next(pieces)
    assert far.seen()["open"] == 1
    stream.cancel()
    assert len(list(pieces)) <= 1
    assert stream.finish_reason == "cancelled"
    far.until(open=0, broken=broken + 1)


def test_an_iterator_left_alone_closes_it_too(model: ChatModel, far: FarServer) -> None:
    stream = model.stream(user("endless"), USUAL)
    pieces = iter(stream)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    far.until(open=0)


@pytest.mark.parametrize("read", [0, 2])
def test_an_answer_that_nobody_holds_hangs_up(model: ChatModel, far: FarServer, read: int) -> None:
    stream = model.stream(user("endless"), USUAL)
    for _ in range(read):
        next(iter(stream))
    del stream
    gc.collect()
    far.until(open=0)


def test_a_stop_string_ends_it_whoever_looks_for_it(model: ChatModel, far: FarServer) -> None:
    stream = model.stream(user("stop"), Sampling(temperature=0, stop=("three",)))
    assert "".join(stream) == "one two "
    assert stream.finish_reason == "stop"
    far.until(open=0)


@pytest.mark.parametrize("reasons", ["switched", "always"])
def test_reasoning_beyond_its_budget_is_cut_and_the_answer_asked_for_at_once(tmp_path: Path, reasons: str) -> None:
    asked = Sampling(thinking=None, max_new_tokens=40, max_reasoning_tokens=20)
    with far_server(reasons=reasons) as far, registry_of(tmp_path, far.url) as registry:
        with registry.lease("far") as model:
            stream = model.stream(user("hello"), asked)
            if reasons == "always":
                with pytest.raises(NoAnswerBehindReasoning, match="reasoned for about"):
                    list(stream)
            else:
                parts = list(stream.parts())
                assert "".join(part.text for part in parts if part.kind == "answer") == "You said: hello"
                assert "so so" in stream.reasoning
                assert (stream.finish_reason, stream.reasoning_tokens) == ("stop", 21)
                assert stream.completion_tokens == 21 + 7
        first, second = far.seen()["bodies"]
        assert (first["max_tokens"], second["max_tokens"]) == (60, 40)
        assert second["chat_template_kwargs"] == {"enable_thinking": False}
        far.until(open=0, broken=2 if reasons == "always" else 1)


def test_an_answer_that_begins_in_the_event_that_ends_the_reasoning_is_whole(tmp_path: Path) -> None:
    deltas = [{"reasoning_content": "so it is 4"}, {"reasoning_content": ".\n", "content": "The"}]
    with (
        far_server(deltas=deltas, answers=[["", " answer is 4."]]) as far,
        registry_of(tmp_path, far.url) as registry,
        registry.lease("far") as model,
    ):
        stream = model.stream(user("2 + 2?"), Sampling(thinking=None))
        assert "".join(stream) == "The answer is 4."
        assert stream.reasoning.rstrip() == "so it is 4."


def test_a_stop_string_ends_the_answer_and_not_the_reasoning_before_it(tmp_path: Path) -> None:
    deltas, answers = [{"reasoning_content": "three of four"}], [["", "one two three four"]]
    with (
        far_server(deltas=deltas, answers=answers) as far,
        registry_of(tmp_path, far.url) as registry,
        registry.lease("far") as model,
    ):
        stream = model.stream(user("count"), Sampling(thinking=None, stop=("three",)))
        assert ("".join(stream), stream.finish_reason) == ("one two ", "stop")
        assert "stop" not in far.seen()["bodies"][-1], "servers cut the reasoning by it"
        far.until(open=0)


def test_the_far_tokenizer_and_context_decide_which_turns_go(model: ChatModel, far: FarServer) -> None:
    assert model.context_tokens == 60
    assert model.count_tokens(user("a b c")) == 3
    long: list[Message] = [{"role": "system", "content": "be brief"}]
    for number in range(20):
        long += [{"role": "user", "content": f"q{number} " + "word " * 4}, {"role": "assistant", "content": "yes"}]
    long.append({"role": "user", "content": "and now"})
    stream = model.stream(long, USUAL, drop_oldest=True)
    list(stream)
    sent = far.seen()["bodies"][-1]["messages"]
    assert sent[0]["content"] == "be brief"
    assert sent[-1]["content"] == "and now"
    assert sent[1]["role"] == "user"
    assert stream.dropped_turns == 20 - (len(sent) - 2) // 2
    assert sum(len(turn["content"].split()) for turn in sent) <= 45
    with pytest.raises(PromptTooLong):
        model.stream(long, USUAL)


def test_it_is_listed_and_leased_like_any_other(registry: ModelRegistry) -> None:
    assert registry.names()[0] == "far"
    with registry.lease("far+lin") as adapted:
        assert adapted.name == "far+lin"
        assert "".join(adapted.stream(user("x"), USUAL)) == "You said: x"
        entry = registry.ledger().models[0]
        assert (entry.name, entry.kind, entry.state, entry.device) == ("far", "remote", "ready", "remote")
        assert (entry.mib, entry.cache_mib, entry.adapters, entry.leases) == (0, 0, ("lin",), 1)
    assert registry.names()[:2] == ["far", "far+lin"]
    registry.unload("far")
    assert registry.ledger().models == ()


def test_an_adapter_goes_by_its_own_name(registry: ModelRegistry, far: FarServer) -> None:
    with registry.lease("far+lin") as adapted:
        list(adapted.stream(user("x"), USUAL))
    assert far.seen()["bodies"][-1]["model"] == "lin"


@pytest.mark.parametrize("name", ["far+unrelated", "http://127.0.0.1:1/v1", "other=http://127.0.0.1:1/v1"])
def test_only_configured_engines_can_be_named(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(UnknownModel), registry.lease(name):
        pass


def test_its_weights_are_not_here(registry: ModelRegistry, model: ChatModel, tmp_path: Path) -> None:
    assert not isinstance(model, InspectableModel)
    with pytest.raises(NoWeightsHere):
        registry.folder("far")
    with pytest.raises(NoWeightsHere):
        registry.add_adapter("far+mine", tmp_path)


def test_another_replica_answers_when_one_is_away(tmp_path: Path) -> None:
    with (
        far_server() as first,
        far_server(busy=True) as second,
        registry_of(tmp_path, "http://127.0.0.1:9/v1", first.url, second.url) as registry,
        registry.lease("far") as model,
    ):
        assert registry.ledger().models[0].device == "remote 2/3"
        for _ in range(4):
            assert "".join(model.stream(user("hi"), USUAL)) == "You said: hi"
        assert len(first.seen()["bodies"]) == 4
        first.process.kill()
        first.process.wait()
        with pytest.raises(EngineBusy):
            list(model.stream(user("hi"), USUAL))
        assert registry.ledger().models[0].device == "remote 1/3"


def test_the_least_busy_replica_is_asked(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(far_server(answers=[["endless", ENDLESS]])) for _ in range(2)]
        registry = stack.enter_context(registry_of(tmp_path, *(server.url for server in servers)))
        model = stack.enter_context(registry.lease("far"))
        streams = [model.stream(user("endless"), USUAL) for _ in range(4)]
        for stream in streams:
            next(iter(stream))
        assert [server.seen()["open"] for server in servers] == [2, 2]
        for stream in streams:
            stream.cancel()
        for server in servers:
            server.until(open=0)


def test_a_server_that_dies_midway_is_told_from_one_that_is_away(tmp_path: Path) -> None:
    with (
        far_server(answers=[["endless", ENDLESS]]) as server,
        registry_of(tmp_path, server.url) as registry,
        registry.lease("far") as model,
    ):
        pieces = iter(model.stream(user("endless"), USUAL))
        next(pieces)
        server.process.kill()
        server.process.wait()
        with pytest.raises(DiedMidway):
            list(pieces)
        with pytest.raises(EngineAway):
            list(model.stream(user("hi"), USUAL))


def test_an_answer_without_an_end_is_no_answer(model: ChatModel) -> None:
    with pytest.raises(DiedMidway):
        list(model.stream(user("break off"), USUAL))


def test_fields_that_a_server_does_not_take_are_left_out(tmp_path: Path) -> None:
    with (
        far_server(refuses=["stream_options", "seed"]) as server,
        registry_of(tmp_path, server.url) as registry,
        registry.lease("far") as model,
    ):
        for _ in range(2):
            stream = model.stream(user("hi"), Sampling(seed=1))
            assert "".join(stream) == "You said: hi"
            assert stream.completion_tokens > 1  # counted here
        assert len(server.seen()["bodies"]) == 3


@pytest.mark.parametrize(
    ("script", "address", "error", "said"),
    [
        ({"key": "right"}, {"key": "wrong"}, KeyRefused, "PUYU_ENGINE_KEY_FAR"),
        ({"models": [{"id": "a"}]}, {"model": "b"}, UnknownModelThere, "It has: a."),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    script: dict[str, object], address: dict[str, str], error: type[StudioError], said: str, tmp_path: Path
) -> None:
    with far_server(**script) as server, registry_of(tmp_path, server.url, **address) as registry:
        with pytest.raises(error) as raised, registry.lease("far") as model:
            list(model.stream(user("hi"), USUAL))
        assert said in raised.value.text("en")
        assert "wrong" not in raised.value.text("en").replace("went wrong", "")


def test_an_engine_that_was_never_there_fails_to_load(tmp_path: Path) -> None:
    with registry_of(tmp_path, "http://127.0.0.1:9/v1") as registry:
        with pytest.raises(EngineAway), registry.lease("far"):
            pass
        entry = registry.ledger().models[0]
        assert (entry.state, "127.0.0.1" in entry.detail) == ("failed", False)


def test_unloading_ends_what_still_runs(registry: ModelRegistry, far: FarServer) -> None:
    with registry.lease("far") as model:
        pieces = iter(model.stream(user("endless"), USUAL))
        next(pieces)
    registry.unload("far")
    with pytest.raises(EngineAway):
        list(pieces)
    far.until(open=0)


@pytest.fixture
def roomy() -> Iterator[FarServer]:
    """One that tells no context."""
    with far_server(models=[{"id": "internlm"}]) as server:
        yield server


def test_pictures_reach_a_far_engine_that_is_said_to_see(roomy: FarServer, tmp_path: Path) -> None:
    engines = read_engines([f"eyes={roomy.url}#internlm#sees", f"blind={roomy.url}#internlm"], {}, taken=())
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, tmp_path), "eyes", engines=engines)
    picture = as_jpeg(Image.new("RGB", (30, 20), "red"))
    earlier: Message = {"role": "user", "content": "What is this?", "images": (picture,)}
    asked: list[Message] = [earlier, {"role": "assistant", "content": "Red."}, *user("Why?")]
    try:
        assert (registry.is_multimodal("eyes"), registry.is_multimodal("blind")) == (True, False)
        with registry.lease("eyes") as model:
            assert "".join(model.stream([earlier], USUAL)) == "You said: What is this?"
            list(model.stream(asked, USUAL))
        with registry.lease("blind") as model, pytest.raises(CannotSee):
            model.stream([earlier], USUAL)
    finally:
        registry.close()
    bodies = roomy.seen()["bodies"]
    assert len(bodies) == 2
    for body in bodies:
        shown, said = body["messages"][0]["content"]
        assert said == {"type": "text", "text": "What is this?"}
        kind, _, data = shown["image_url"]["url"].partition(",")
        assert (shown["type"], kind) == ("image_url", "data:image/jpeg;base64")
        assert base64.b64decode(data) == picture
    assert [turn["content"] for turn in bodies[-1]["messages"][1:]] == ["Red.", "Why?"]
