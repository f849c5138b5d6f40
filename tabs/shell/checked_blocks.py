"""Gradio Blocks that refuse inputs in a sentence, over the queue too: no upload, a value of a wrong form."""

import logging
from typing import Any

import gradio as gr

from app.errors import BadInput, StudioError
from app.texts import chosen_language
from tabs.shell.border import dialog
from tabs.shell.generators import GeneratorBlocks

log = logging.getLogger(__name__)


class UnusableInput(BadInput):
    zh = "发送的内容不可用。文件请先上传；其余请按 /gradio_api/info 里的说明发送。"
    en = "What was sent cannot be used. Upload files first; send the rest as /gradio_api/info describes."


class CheckedBlocks(GeneratorBlocks):
    """Handlers have a border of their own; here is what fails before them. Gradio would answer with no word at all."""

    async def preprocess_data(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().preprocess_data(*arguments, **options)
        except (gr.Error, StudioError):
            raise
        except Exception as error:
            log.info("the inputs of an event cannot be read", exc_info=True)
            raise UnusableInput from error

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        request = options.get("request")
        cookies, headers = getattr(request, "cookies", {}), getattr(request, "headers", {})
        with dialog(chosen_language(cookies, headers, otherwise="en")):
            return await super().process_api(*arguments, **options)
