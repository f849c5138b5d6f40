"""Generators of page events: what one returns is shown together with the end of its event."""

import json
from collections.abc import Callable

import gradio as gr
import httpx

from tabs.shell.generators import GeneratorBlocks, View, Views
from tabs.shell.page import Page, Visitor


def test_the_page_is_free_only_once_its_event_is_over(serve: Callable[[gr.Blocks], str]) -> None:
    """Else the browser would drop what is sent in between."""
    with GeneratorBlocks() as blocks:
        page = Page(blocks, "en", gr.State(), gr.BrowserState({}))
        answer, state, button = gr.Textbox(), gr.Textbox(), gr.Button()

        def ask(_visitor: Visitor) -> Views:
            yield {answer: "Once", state: "busy"}
            yield {answer: "Once upon"}
            return {answer: "Once upon a time", state: "free"}

        def look(_visitor: Visitor) -> View:
            return {state: "looked"}

        page.on(button.click, ask, [], [answer, state])
        page.on(answer.submit, look, [], [answer, state])
    address = serve(blocks)
    *shown, end = messages(address, blocks, "ask")
    assert [one["msg"] for one in shown] == ["process_generating"] * 2
    assert "free" not in json.dumps(shown)
    assert end["success"] and not end["output"]["is_generating"]
    assert end["output"]["data"] == ["Once upon a time", "free"]
    (end,) = messages(address, blocks, "look")
    assert end["output"]["data"][1] == "looked"


def test_an_update_is_told_whole(serve: Callable[[gr.Blocks], str]) -> None:
    """The browser writes differences into what it has heard before, drawn or not."""
    with GeneratorBlocks() as blocks:
        page = Page(blocks, "en", gr.State(), gr.BrowserState({}))
        answer, stop, button = gr.Textbox(), gr.Button(visible=False), gr.Button()

        def ask(_visitor: Visitor) -> Views:
            yield {answer: "Once", stop: gr.update(visible=True)}
            yield {answer: "Once upon"}
            yield {answer: "Once upon a"}
            return {answer: "Once upon a time"}

        page.on(button.click, ask, [], [answer, stop])
    first, second, third, _ = (one["output"]["data"] for one in messages(serve(blocks), blocks, "ask"))
    assert first[0] == "Once" and first[1]["visible"]
    assert second == [[["append", [], " upon"]], [["replace", [], {"__type__": "update"}]]]
    assert third == [[["append", [], " a"]], []]


def messages(address: str, blocks: gr.Blocks, name: str) -> list[dict]:
    """What a browser is sent of one event."""
    number = next(one["id"] for one in blocks.get_config_file()["dependencies"] if one["api_name"] == name)
    event = {"data": [None, None], "fn_index": number, "session_hash": name}
    httpx.post(f"{address}/gradio_api/queue/join", json=event).raise_for_status()
    heard = []
    with httpx.stream("GET", f"{address}/gradio_api/queue/data", params={"session_hash": name}) as stream:
        for line in stream.iter_lines():
            said = json.loads(line.removeprefix("data: ")) if line else {"msg": ""}
            if said["msg"] in ("process_generating", "process_completed"):
                heard.append(said)
            if said["msg"] in ("process_completed", "close_stream"):
                break
    return heard
