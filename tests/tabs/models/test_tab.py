"""What the models panel says."""

from dataclasses import replace

import gradio as gr
import pytest

from app.errors import ModelInUse
from app.models.interface import Fit, Ledger, LedgerEntry, SamplingDefaults
from tabs.models.ledger_view import ledger_html
from tabs.models.tab import act_load, act_unload, refresh, will_fit
from tabs.shell.page import Visitor
from tests.fakes import FakeModel, FakeRegistry

EN = Visitor("en", "li", "session")


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry(FakeModel("tiny"), FakeModel("other"), budget_mib=400)


def test_whether_a_model_fits_is_said_beforehand(registry: FakeRegistry) -> None:
    assert "will fit: it needs 260 MiB, 400 MiB are free" in will_fit(registry, EN, "tiny")
    registry.load("tiny")
    assert "is loaded and holds 260 MiB" in will_fit(registry, EN, "tiny")
    assert "will not fit: it needs 260 MiB, 140 MiB are free" in will_fit(registry, EN, "other")
    assert "tiny:4bit" in will_fit(Tight(), EN, "tiny")
    assert "no model named nope" in will_fit(registry, EN, "nope")


class Tight(FakeRegistry):
    def fit(self, name: str) -> Fit:
        return replace(super().fit(name), fits=False, alternative=f"{name}:4bit")


def test_what_would_have_to_go_is_named() -> None:
    class Full(FakeRegistry):
        def fit(self, name: str) -> Fit:
            return replace(super().fit(name), evicts=("idle-one", "idle-two"))

    assert "To go: idle-one, idle-two" in will_fit(Full(), EN, "tiny")


def test_what_is_unpacked_while_it_is_read_says_so() -> None:
    class Packed(FakeRegistry):
        def fit(self, name: str) -> Fit:
            return replace(super().fit(name), unpacks=True)

    registry = Packed()
    for _ in ("before", "loaded"):
        assert "AWQ or GPTQ" in will_fit(registry, EN, "tiny") and "tiny:4bit" in will_fit(registry, EN, "tiny")
        assert "和全精度一样多的内存" in will_fit(registry, Visitor("zh", "li", "session"), "tiny")
        registry.load("tiny")
    assert "AWQ" not in will_fit(FakeRegistry(), EN, "tiny")


def test_a_far_model_shows_its_replicas_and_no_memory() -> None:
    far = LedgerEntry("far", "remote", "ready", "remote 1/2", 0, 0, ("lin",), 0)
    card = ledger_html(Ledger(400, 0, (far,)), "en").partition("cards")[2]
    assert "replicas up: 1/2" in card and "adapters lin" in card
    assert "weights" not in card and 'class="bar"' not in card
    alone = ledger_html(Ledger(400, 0, (replace(far, device="remote"),)), "en")
    assert "replicas" not in alone

    class Far(FakeRegistry):
        def fit(self, name: str) -> Fit:
            return replace(super().fit(name), needed_mib=0)

    assert will_fit(Far(FakeModel("far")), EN, "far") == "**far** runs on another machine and takes no memory here."


def test_load_and_unload(registry: FakeRegistry) -> None:
    ledger, fit, _ = act_load(registry, ledger_html, EN, "tiny")
    assert "tiny" in ledger and "is loaded" in fit
    ledger, fit, _ = act_unload(registry, ledger_html, EN, "tiny")
    assert "No model is loaded" in ledger and "will fit" in fit


def test_what_another_tab_has_unloaded_is_not_said_to_be_loaded(registry: FakeRegistry) -> None:
    def look(told: str | None, visitor: Visitor = EN) -> str | None:
        with gr.Blocks():
            ledger, fit, clock = gr.HTML(), gr.Markdown(), gr.Timer()
        seen = refresh(registry, ledger_html, ledger, fit, clock, visitor, "", "tiny", told, 0.0)[fit]
        return seen if isinstance(seen, str) else told

    assert look(None) is None, "nothing was said yet"
    registry.load("tiny")
    loaded, zh = look("will fit"), Visitor("zh", "li", "session")
    assert "is loaded and holds" in str(loaded)
    in_chinese = look(None, zh)
    registry.unload("tiny")
    assert "will fit" in str(look(loaded)) and "放得下" in str(look(in_chinese, zh))
    assert look("its answers differ by 0.01 nats") == "its answers differ by 0.01 nats"


def test_a_model_in_use_is_not_unloaded(registry: FakeRegistry) -> None:
    with registry.lease("tiny"), pytest.raises(ModelInUse, match="in use"):
        act_unload(registry, ledger_html, EN, "tiny")


def test_the_ledger_shows_states_progress_and_adapters_and_escapes_names() -> None:
    entries = (
        LedgerEntry("a<b>", "chat", "loading", "cuda", 10, 0, (), 0, progress=0.25),
        LedgerEntry("ok", "chat", "ready", "cpu", 2048, 512, ("me",), 3, sampling=SamplingDefaults(0.8, 0.95, 20)),
        LedgerEntry("bad", "embedder", "failed", "cpu", 0, 0, (), 0, detail="no <file>", log="Tr<ace"),
    )
    drawn = ledger_html(Ledger(8192, 2570, entries), "en")
    assert "a&lt;b&gt;" in drawn and "a<b>" not in drawn
    assert "width:25.0%" in drawn
    assert "2.5 GiB of 8.0 GiB in use" in drawn
    assert "adapters me" in drawn and "in use by 3" in drawn and "cache 512 MiB" in drawn
    assert "no &lt;file&gt;" in drawn
    assert "temperature 0.8, top-p 0.95, top-k 20" in drawn
    assert "Tr" not in drawn and "Tr&lt;ace" in ledger_html(Ledger(8192, 0, entries), "en", with_logs=True)
    assert "就绪" in ledger_html(Ledger(8192, 0, entries), "zh")
