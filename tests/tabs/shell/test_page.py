"""What every tab stands on: visitors, languages, the border between errors and the page."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import gradio as gr
import pytest
from gradio_client import Client

from app.access.identity import Login, guest_of
from app.errors import BadInput
from app.web import ui
from tabs.shell.page import BROWSER_SECRET, Page, Visitor, recall
from tests.fakes import FakeModel, FakeRegistry, fake_services

SECRET = "0123456789abcdef" * 2


def page_in(blocks: gr.Blocks) -> Page:
    return Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))


def repeat(punctuation: str, visitor: Visitor, word: str, times: int = 2) -> Iterator[str]:
    """Say it again."""
    for count in range(1, times + 1):
        yield visitor.language + punctuation + word * count


def refuse(_visitor: Visitor, fault: str) -> str:
    """Fail as asked."""
    if fault == "ours":
        raise BadInput(reason_zh="不行", reason_en="not this")
    raise RuntimeError("the secret is 1234")


def test_no_event_has_its_progress_on_more_than_one_component() -> None:
    """The browser looks through the whole page for each one, at every step of every event."""
    events = ui.build(fake_services(FakeRegistry(FakeModel("tiny")))).get_config_file()["dependencies"]
    asked = [event for event in events if event["backend_fn"] and event["outputs"]]
    asked = [event for event in asked if event["api_visibility"] == "private"]  # an endpoint has no page
    assert len(asked) > 30
    assert all(len(event["show_progress_on"]) == 1 for event in asked)


def test_a_file_that_comes_while_another_is_taken_in_is_taken_in_after_it() -> None:
    """Gradio's own way is to drop it."""
    config = ui.build(fake_services(FakeRegistry(FakeModel("tiny")))).get_config_file()
    uploads = [event for event in config["dependencies"] if any(name == "upload" for _, name in event["targets"])]
    assert uploads and {event["trigger_mode"] for event in uploads} == {"always_last"}


@pytest.fixture
def client(serve: Callable[[gr.Blocks], str]) -> Iterator[Client]:
    with gr.Blocks() as blocks:
        page = page_in(blocks)
        page.api(partial(repeat, ":"), "repeat")
        page.api(refuse, "refuse")
    yield Client(serve(blocks), verbose=False, headers={"accept-language": "en-US"})


def test_an_endpoint_has_the_handler_s_parameters_and_streams(client: Client) -> None:
    job = client.submit("ab", api_name="/repeat")
    assert job.result() == "en:abab"
    assert job.outputs()[0] == "en:ab"
    assert client.predict(word="x", times=3, api_name="/repeat") == "en:xxx"
    names = [
        parameter["parameter_name"]
        for parameter in client.view_api(return_format="dict")["named_endpoints"]["/repeat"]["parameters"]
    ]
    assert names == ["word", "times"]


def test_our_errors_are_shown_in_the_visitor_s_language(client: Client) -> None:
    with pytest.raises(Exception, match="not this"):
        client.predict("ours", api_name="/refuse")


def test_a_bug_is_logged_with_its_traceback_and_not_shown(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Exception, match="internal error") as shown:
        client.predict("bug", api_name="/refuse")
    assert "1234" not in str(shown.value)
    assert "the secret is 1234" in caplog.text


def test_texts_follow_the_language() -> None:
    with gr.Blocks() as blocks:
        page = page_in(blocks)
        button = page.bind(gr.Button(), value="app.theme")
        models = page.bind(gr.Dropdown(), label="app.model", choices=lambda language: [language])
    assert button.value == "明 / 暗"
    updates = page.updates("en")
    assert [update["__type__"] for update in updates.values()] == ["update", "update"]
    assert (updates[button]["value"], updates[models]["choices"]) == ("Light / dark", ["en"])
    assert page.bound_components == [button, models]


def test_who_the_visitor_is() -> None:
    with gr.Blocks() as blocks:
        page = page_in(blocks)
    asked = gr.Request(session_hash="server:terminal", headers={})
    login = gr.Request(username="li", session_hash="s2", headers={})
    assert page.visitor(asked, "en", SECRET) == Visitor("en", guest_of(SECRET), "server:terminal")
    assert not page.visitor(asked, "en").login
    assert page.visitor(login, "zh", SECRET) == Visitor("zh", Login("li"), "s2")
    assert page.visitor(login, "zh").login


@pytest.mark.parametrize("stored", [None, [], {"key": "../x"}, {"language": "fr", "key": 3}])
def test_odd_browser_storage_is_nothing(stored: object) -> None:
    language, key = recall(stored)
    assert (language, key) == (None, None)


def test_what_the_browser_kept_is_used() -> None:
    assert recall({"language": "en", "key": "0" * 32}) == ("en", "0" * 32)
