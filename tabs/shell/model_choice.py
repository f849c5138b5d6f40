"""Model dropdown of every page: what is loaded, on disk, to download or too large here, with size and languages."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.blocks import Block

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
    texts: dict[str, Any] = {"label": label, "info": info} if info else {"label": label}
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
    page.model_lists[choice] = nothing
    page.on(choice.focus, partial(_refresh, registry, {choice: nothing}), [], [choice])


def fill_model_lists(page: Page, registry: Registry) -> None:
    """At a page's arrival all of its lists, from one look at the models."""
    page.on_arrival(partial(_refresh, registry, page.model_lists), [], list(page.model_lists))


def _refresh(registry: Registry, lists: dict[Block, str], visitor: Visitor) -> dict[Block, dict[str, Any]]:
    models = labelled(registry.for_visitor(visitor.name), visitor.language)
    return {
        choice: gr.update(choices=[(visitor.text(nothing), ""), *models] if nothing else models)
        for choice, nothing in lists.items()
    }


def labelled(registry: Registry, language: Language) -> list[tuple[str, str]]:
    """(label, name) of each model: the loaded ones first, those too large for this machine last. Of one that would fit
    in fewer bits, that one is listed too."""
    ledger = registry.ledger()
    states = {entry.name: entry.state for entry in ledger.models}
    row = partial(_row, registry, ledger.budget_mib)
    rows = [row(name, states.get(name.split("+")[0], "")) for name in registry.names()]
    listed = {one.name for one in rows}
    rows += [row(one.fewer_bits, "") for one in rows if one.fewer_bits and one.fewer_bits not in listed]
    rows.sort(key=lambda one: STATES.index(one.state))
    return [(_label(one, language), one.name) for one in rows]


def speaks(name: str, language: Language) -> bool:
    """Whether a model speaks a language, as far as its card tells; one that is not known may."""
    card = _card(name)
    return card is None or not card.languages or language in card.languages


def spoken(name: str, language: Language) -> Language:
    """The page's language, or English where the model does not speak it: what examples are given in."""
    return language if speaks(name, language) else "en"


@dataclass(frozen=True)
class _Row:
    """A model of the list: its group, the memory it needs in MiB where that is known, a variant that would fit."""

    name: str
    state: str
    mib: int = 0
    fewer_bits: str = ""


def _row(registry: Registry, budget_mib: int, name: str, held: str) -> _Row:
    try:
        fit = registry.fit(name)
    except StudioError:
        return _Row(name, "to_download")
    if held in HERE or not fit.needed_mib:
        return _Row(name, "loaded", fit.needed_mib)
    if fit.needed_mib > budget_mib > 0:
        return _Row(name, "too_large", fit.needed_mib, fit.alternative)
    card = _card(name)
    return _Row(name, "on_disk" if card is None or sources.is_here(card) else "to_download", fit.needed_mib)


def _label(row: _Row, language: Language) -> str:
    size = f"{row.mib / 1024:.1f} GiB" if row.mib >= 1024 else f"{row.mib} MiB" if row.mib else ""
    card, precision = _card(row.name), known_models.split_precision(row.fewer_bits)[1]
    fits = sentence(language, "app.fits_in_bits", bits=precision.removesuffix("bit")) if precision else ""
    languages = "/".join(sentence(language, f"app.languages.{one}") for one in card.languages) if card else ""
    pictures = sentence(language, "app.sees") if card and card.modality == "vision" else ""
    facts = [sentence(language, f"app.model_states.{row.state}"), size, fits, languages, pictures]
    return " · ".join([row.name, *(fact for fact in facts if fact)])


def _card(name: str) -> known_models.ModelCard | None:
    """None for a name that only this server knows, as of a tuned model; a base's adapters are like their base."""
    base = name.split("+")[0]
    return known_models.find(base) if known_models.split_precision(base)[0] in known_models.names() else None
