"""The `/finetune` endpoint: train on a file or on rows, and stream the run's status."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from app.errors import BadInput
from app.finetune.data import Conversation, check_rows, read_conversations
from app.finetune.options import TrainOptions
from app.finetune.runs import UNDER_WAY
from app.finetune.service import FinetuneService
from tabs.shell.page import Visitor
from tabs.shell.upload_cleanup import discard

WATCH_SECONDS = 1.0


class NoFile(BadInput):
    zh = "请先选择一个 JSON 或 JSONL 文件。"
    en = "Choose a JSON or JSONL file first."


def finetune(
    service: FinetuneService,
    visitor: Visitor,
    name: str,
    base: str,
    data: Any,
    steps: int = 20,
    options: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train and tell how it goes. `data`: a file, or a list of rows in any of the three forms."""
    chosen = TrainOptions.read({**(options or {}), "steps": steps})
    run = service.submit(visitor.name, name, base, _uploaded(data), chosen, language=visitor.language)
    while True:
        status = service.status(visitor.name, run.id)
        yield status
        if status["state"] not in UNDER_WAY:
            return
        time.sleep(WATCH_SECONDS)


def _uploaded(data: Any) -> list[Conversation]:
    if isinstance(data, dict) and "path" in data:
        path = Path(str(data["path"])).resolve()
        # only what came in as an upload, never another file of this machine
        if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
            raise NoFile
        text = path.read_text(encoding="utf-8", errors="replace")
        discard([path])
        return read_conversations(text)
    if isinstance(data, list):
        return check_rows(enumerate(data, 1))
    raise NoFile
