"""Model dropdown of every page: what is loaded, on disk, to download or too large here, with size and languages."""

from typing import Any

import gradio as gr

from app.errors import Language, StudioError
from app.models.catalog import known_models, sources
from app.models.interface import Registry
from app.texts import sentence
from tabs.shell.page import Page, Visitor

STATES = ("loaded", "on_disk", "to_download", "too_large")  # in the order of the list
HERE = ("ready", "loading", "parked")


def model_choice(
    page: Page, registry: Registry, label: str = "app.model", info: str = "", *, follows: bool = True, **look: Any
) -> gr.Dropdown:
    """A list of models that is fresh whenever it is opened; any hub repository or folder can be typed as well.

    One that `follows` turns from the packaged model to a better one that was downloaded.
    """
    texts = {"label": label, "info": info} if info else {"label": label}
    names = registry.for_visitor("").names()
    drawn = gr.Dropdown(names, value=registry.default_name, allow_custom_value=True, **look)
    choice = page.bind(drawn, **texts)
    keep_fresh(page, registry, choice)
    if follows:
        page.following.append(choice)
    return choice


def keep_fresh(page: Page, registry: Registry, choice: gr.Dropdown, nothing: str = "") -> None:
    """At the start and whenever it is opened, the list holds what is there for this visitor, and first no model where
    there is a text for it."""

    def refresh(visitor: Visitor) -> dict[str, Any]:
        first = [(visitor.text(nothing), "")] if nothing else []
        return gr.update(choices=first + labelled(registry.for_visitor(visitor.name), visitor.language))

    page.on(choice.focus, refresh, [], [choice])
    # not at load: whose models these are is known once the browser has said who it is
    page.on(page.remembered.change, refresh, [], [choice])


def labelled(registry: Registry, language: Language) -> list[tuple[str, str]]:
    """(label, name) of each model: the loaded ones first, those too large for this machine last."""
    states = {entry.name: entry.state for entry in registry.ledger().models}
    rows = [(*_state(registry, name, states.get(name.split("+")[0], "")), name) for name in registry.names()]
    rows.sort(key=lambda row: STATES.index(row[0]))
    return [(_label(name, state, mib, language), name) for state, mib, name in rows]


def speaks(name: str, language: Language) -> bool:
    """Whether a model speaks a language, as far as its card tells; one that is not known may."""
    card = _card(name)
    return card is None or not card.languages or language in card.languages


def spoken(name: str, language: Language) -> Language:
    """The page's language, or English where the model does not speak it: what examples are given in."""
    return language if speaks(name, language) else "en"


def _state(registry: Registry, name: str, held: str) -> tuple[str, int]:
    """Its group in the list, and the memory it needs in MiB where that is known."""
    try:
        fit = registry.fit(name)
    except StudioError:
        return "to_download", 0
    budget = registry.ledger().budget_mib
    if held in HERE or not fit.needed_mib:
        return "loaded", fit.needed_mib
    if fit.needed_mib > budget > 0:
        return "too_large", fit.needed_mib
    card = _card(name)
    return "on_disk" if card is None or sources.is_here(card) else "to_download", fit.needed_mib


def _label(name: str, state: str, mib: int, language: Language) -> str:
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB" if mib else ""
    card = _card(name)
    languages = "/".join(sentence(language, f"app.languages.{one}") for one in card.languages) if card else ""
    pictures = sentence(language, "app.sees") if card and card.modality == "vision" else ""
    facts = [sentence(language, f"app.model_states.{state}"), size, languages, pictures]
    return " · ".join([name, *(fact for fact in facts if fact)])


def _card(name: str) -> known_models.ModelCard | None:
    """None for a name that only this server knows, as of a tuned model; a base's adapters are like their base."""
    base = name.split("+")[0]
    return known_models.find(base) if known_models.split_precision(base)[0] in known_models.names() else None
