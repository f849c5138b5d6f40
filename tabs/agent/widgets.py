"""Widgets of the agent page."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.agent.sandbox.libraries import installed
from app.agent.service import AgentService
from app.errors import Language
from app.models.interface import Registry
from app.texts import load_texts, sentence
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.conversation import conversation_chatbot, question_box
from tabs.shell.model_choice import model_choice, spoken
from tabs.shell.page import Page


@dataclass(frozen=True)
class AgentWidgets:
    """What the tab's events read and write."""

    chatbot: gr.Chatbot
    box: gr.Textbox
    approval: gr.Column
    edited: gr.Code
    run: gr.Button
    skip: gr.Button
    model: gr.Dropdown
    note: gr.Markdown
    max_steps: gr.Slider
    approve: gr.Checkbox
    documents: gr.Checkbox
    tools: gr.Checkbox
    upload: gr.UploadButton
    files: gr.Dropdown
    download: gr.Button
    reset: gr.Button

    @property
    def view(self) -> list[Any]:
        """What every event of the tab may change."""
        return [self.chatbot, self.box, self.approval, self.edited, self.files]


def draw_unavailable(page: Page, service: AgentService) -> None:
    """In place of the tab: why there is no sandbox and what to do."""
    explanation = service.finding.unavailable()
    page.bind(gr.Markdown(elem_id="agent-off"), value=explanation.text)


def draw(page: Page, service: AgentService, registry: Registry) -> AgentWidgets:
    """The talk in the middle, settings and files on the right."""
    with gr.Row(elem_id="agent", equal_height=False):
        with gr.Column(elem_id="agent-main", scale=1, min_width=0):
            talk = _talk(page, service, registry)
        with gr.Column(elem_id="agent-settings", scale=0, min_width=260):
            model = model_choice(page, registry)
            note = gr.Markdown(visible=False, elem_id="agent-note")
            max_steps = page.bind(gr.Slider(1, 20, 6, step=1), label="agent.max_steps", info="agent.max_steps_info")
            approve = page.bind(gr.Checkbox(False), label="agent.approve", info="agent.approve_info")
            documents = page.bind(
                gr.Checkbox(False, visible=service.with_documents), label="agent.documents", info="agent.documents_info"
            )
            tools = page.bind(gr.Checkbox(False, visible=bool(service.tool_servers)), label="agent.tools")
            page.bind(tools, info=lambda language: _servers(language, service))
            files = _files(page, service)
            page.bind(gr.Markdown(elem_id="agent-libraries"), value=_libraries)
            reset = page.bind(gr.Button(elem_id="agent-reset", size="sm", elem_classes=ASKS_FIRST), value="agent.reset")
    return AgentWidgets(
        **talk,
        **files,
        model=model,
        note=note,
        max_steps=max_steps,
        approve=approve,
        documents=documents,
        tools=tools,
        reset=reset,
    )


def _talk(page: Page, service: AgentService, registry: Registry) -> dict[str, Any]:
    def examples(language: Language) -> list[dict[str, str]]:
        key = "examples_small" if is_small(registry.default_name) else "examples"
        if key == "examples" and not service.with_files:
            key = "examples_without_files"
        return [{"text": example} for example in load_texts(spoken(registry.default_name, language))[f"agent.{key}"]]

    chatbot = page.bind(
        conversation_chatbot("agent-chat"),
        label="agent.talk",
        placeholder="agent.welcome",
        examples=examples,
        live=True,
    )
    with gr.Column(visible=False, elem_id="agent-approval") as approval:
        edited = page.bind(gr.Code(language="python", interactive=True, max_lines=14), label="agent.edited")
        with gr.Row():
            run = page.bind(gr.Button(variant="primary", size="sm"), value="agent.run")
            skip = page.bind(gr.Button(size="sm"), value="agent.skip")
    box = page.bind(
        question_box("agent-box"),
        label="agent.task",
        placeholder="agent.placeholder",
    )
    return {"chatbot": chatbot, "box": box, "approval": approval, "edited": edited, "run": run, "skip": skip}


def is_small(model: str) -> bool:
    """Whether this is the packaged model, which can do sums in English and little else."""
    return model.startswith("smollm2-135m")


def _servers(language: Language, service: AgentService) -> str:
    return sentence(language, "agent.tools_info", names=", ".join(service.tool_servers))


def _libraries(language: Language) -> str:
    return sentence(language, "agent.libraries", names=", ".join(installed()))


def _files(page: Page, service: AgentService) -> dict[str, Any]:
    shown = service.with_files
    if not shown:
        page.bind(gr.Markdown(elem_id="agent-no-files"), value="agent.no_files")
    upload = page.bind(
        gr.UploadButton(file_count="multiple", size="sm", elem_id="agent-upload", visible=shown), label="agent.upload"
    )
    files = page.bind(
        gr.Dropdown([], elem_id="agent-files", visible=shown), label="agent.files", info="agent.files_info"
    )
    download = page.bind(gr.Button(size="sm", elem_id="agent-download", visible=shown), value="agent.download")
    return {"upload": upload, "files": files, "download": download}
