"""Presets of the chat in a real browser: shipped ones used, own ones kept, exported, removed, imported."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat_page import begin_another, say
from tests.fakes import FakeModel

pytestmark = pytest.mark.browser


def test_a_preset_sets_what_it_names_and_own_ones_are_kept_exported_and_imported(
    page: Page, model: FakeModel, tmp_path: Path
) -> None:
    settings, preset = page.locator("#chat-settings"), page.get_by_label("Preset", exact=True)
    system, temperature = settings.get_by_label("System prompt"), settings.get_by_label("number input").first
    preset.select_option("Patient teacher")
    expect(temperature).to_have_value("0.4")
    say(page, "one")
    assert "patient teacher" in model.prompts[-1][0][0]["content"]
    assert model.prompts[-1][1].temperature == 0.4
    begin_another(page)
    system.fill("be a pirate")
    expect(preset).to_have_value("-1")
    page.get_by_text("Manage presets").click()
    page.get_by_role("textbox", name="Name").fill("Pirate")
    page.get_by_role("button", name="Save settings").click()
    page.reload()
    expect(preset.locator("option:checked")).to_have_text("Pirate")
    page.get_by_text("Manage presets").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export JSON").click()
    kept = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))["presets"]
    assert [(one["name"], one["settings"]["system"], one["settings"]["model"]) for one in kept] == [
        ("Pirate", "be a pirate", "tiny")
    ]
    page.get_by_role("button", name="Delete: Pirate").click()
    expect(preset.locator("option", has_text="Pirate")).to_have_count(0)
    expect(page.get_by_role("button", name="Export JSON")).to_be_hidden()
    wild = {"name": "海盗", "settings": {"system": "说海盗话", "temperature": 99, "model": "nope", "odd": 1}}
    file = tmp_path / "presets.json"
    file.write_text(json.dumps({"presets": [wild, {"name": 3}]}), encoding="utf-8")
    page.locator("#chat-presets input[type=file]").set_input_files(file)
    preset.select_option("海盗")
    expect(system).to_have_value("说海盗话")
    expect(temperature).to_have_value("0.4")
    file.write_text("no JSON", encoding="utf-8")
    page.locator("#chat-presets input[type=file]").set_input_files(file)
    expect(page.locator("#chat-presets [role=status]")).to_contain_text("holds no presets")
