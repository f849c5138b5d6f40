"""Build the Gradio page: header, one tab per service, language and theme. The only module that knows all tabs."""

from html import escape
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.access.lifetimes import LEFTOVER_SWEEP_S, LEFTOVER_UPLOAD_S
from app.errors import Language
from app.paths import ASSETS
from app.settings import Settings
from app.texts import LANGUAGES
from tabs.agent import tab as agent
from tabs.chat import tab as chat
from tabs.evaluate import tab as evaluate
from tabs.knowledge import tab as knowledge
from tabs.models import tab as models
from tabs.shell.arrival import wire_arrivals
from tabs.shell.better_model import draw_card, draw_opener
from tabs.shell.confirmation import draw_confirmation
from tabs.shell.generators import View
from tabs.shell.leaving import forget_who_leaves
from tabs.shell.model_choice import fill_model_lists
from tabs.shell.page import BROWSER_SECRET, Page, Remembered, Visitor, recall
from tabs.shell.theme import studio_theme
from tabs.shell.translated_blocks import TranslatedBlocks
from tabs.story import tab as story
from tabs.tuning import tab as compare

if TYPE_CHECKING:
    from app.services import Services


# An answer may hold anything, an image address too: the browser itself sees to it that nothing is asked of others.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval';"
    " form-action 'self'; base-uri 'self'; object-src 'none'"
)


STYLE = ASSETS / "studio.css"
SCRIPTS = (
    "studio.js",
    "keyboard.js",
    "dialogs.js",
    "turns.js",
    "storage.js",
    "conversation_list.js",
    "archives.js",
    "transfer.js",
    "drafts.js",
    "presets.js",
    "conversations.js",
    "talks.js",
)


def build(services: "Services") -> gr.Blocks:
    """Draw the page. A tab appears when its service is there."""
    forced = forced_language(services.settings)
    with TranslatedBlocks(
        title="浦语工坊 · Puyu Studio",
        analytics_enabled=False,
        fill_height=True,
        delete_cache=(LEFTOVER_SWEEP_S, LEFTOVER_UPLOAD_S),
    ) as blocks:
        page = Page(
            blocks=blocks,
            default_language=forced,
            remembered=gr.State(),
            sessions=services.sessions,
            stored=gr.BrowserState({}, storage_key="studio-visitor", secret=BROWSER_SECRET),
        )
        switch, opener = _header(page)
        kept_story = story.kept()
        with gr.Tabs(elem_id="tabs") as tabs:
            with page.tab("chat.tab"):
                chat.build(page, services.chat, services.registry, services.knowledge)
            if services.story is not None:
                with page.tab("story.tab"):
                    story.build(page, services.story, services.illustration, services.registry, kept_story)
            if services.knowledge is not None:
                with page.tab("knowledge.tab") as knowledge_tab:
                    knowledge.build(page, services.knowledge, services.registry, knowledge_tab)
            if services.agent is not None:
                with page.tab("agent.tab"):
                    agent.build(page, services.agent, services.registry, login=bool(services.settings.auth))
            if services.finetune is not None:
                with page.tab("compare.tab"):
                    compare.build(page, services.finetune, services.compare, services.registry)
            if services.evaluate is not None and services.evaluate.on_the_page:
                with page.tab("evaluate.tab"):
                    evaluate.build(page, services.evaluate, services.registry)
            with page.tab("models.tab") as models_tab:
                models.build(page, services.registry, services.files, models_tab, tabs)
        if services.better is not None:
            draw_card(page, services.better, opener)
        draw_confirmation(page)
        fill_model_lists(page, services.registry)
        wire_arrivals(page)
        _follow_language(page, switch)
        forget_who_leaves(page)
    blocks.translate(page.draw_in, forced or "zh")
    return blocks


def forced_language(settings: Settings) -> Language | None:
    """The operator's language; None follows each browser."""
    return next((known for known in LANGUAGES if known == settings.language), None)


def appearance() -> dict[str, Any]:
    """How the page looks: options for `launch` and for `mount_gradio_app`."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    style = STYLE.read_text(encoding="utf-8")  # gradio's copy comes later, when the page has been drawn without
    script = "".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return {
        "theme": studio_theme(),
        "css_paths": [STYLE],
        "js": "() => window.studio.start()",
        "head": f"{policy}<style>{style}</style><script>{script}</script>",
        "favicon_path": str(ASSETS / "icons" / "favicon.svg"),
        "footer_links": [],
    }


def _header(page: Page) -> tuple[gr.Button, gr.Button]:
    """Name, theme and language; returns the language button and the one that opens the card of better models."""
    with gr.Row(elem_id="header"):
        page.bind(gr.HTML(elem_id="brand", padding=False), value="app.brand")
        opener = draw_opener()
        who = gr.HTML(elem_id="who", padding=False, visible=False)
        theme = page.bind(gr.Button(elem_id="theme", size="sm", min_width=0), value="app.theme")
        switch = page.bind(gr.Button(elem_id="language", size="sm", min_width=0), value="app.other_language")
    theme.click(None, js="() => window.studio.switchTheme()", api_visibility="private")
    page.on_arrival(_say_who, [], [who])
    return switch, opener


def _say_who(visitor: Visitor) -> dict[str, Any]:
    """Who has logged in, and the way out."""
    name = escape(visitor.name)
    shown = name.partition(":")[2] or name
    leave = escape(visitor.text("app.sign_out"))
    value = f'<span title="{name}">{shown}</span><a href="logout">{leave}</a>'
    return gr.update(value=value if visitor.login else "", visible=visitor.login)


def _follow_language(page: Page, switch: gr.Button) -> None:
    """Last of all, when every component is known: one event turns a page over that was drawn in another language."""

    drawn = page.bind(gr.Textbox(visible=False), value=lambda language: language)
    turned = gr.State()  # the language that the page was turned to after it was drawn

    def arrive(visitor: Visitor, stored: object, drawn: object) -> View:
        chosen, key = recall(stored)
        language = chosen or visitor.language
        return known(visitor, language, chosen, key) | ({} if drawn == language else {turned: language})

    def choose(visitor: Visitor, stored: object) -> View:
        language: Language = "en" if visitor.language == "zh" else "zh"
        return known(visitor, language, language, recall(stored)[1]) | {turned: language}

    def known(visitor: Visitor, language: Language, chosen: Language | None, key: str | None) -> View:
        kept = {"language": chosen, "shown": language, "key": key or token_hex(16), "login": visitor.login}
        return {page.remembered: Remembered(language), page.stored: kept}

    arrived = page.on(page.blocks.load, arrive, [page.stored, drawn], [page.remembered, page.stored, turned])
    page.on(switch.click, choose, [page.stored], [page.remembered, page.stored, turned])
    turning = page.on(turned.change, lambda visitor: page.updates(visitor.language), [], page.bound_components)
    # what is turned is drawn anew: the page can be used when that is over
    ready = "(kept, drawn) => drawn === kept.shown && window.studio.ready(kept)"
    for known_or_turned in (arrived, turning):
        known_or_turned.then(None, [page.stored, drawn], js=ready, api_visibility="private")
