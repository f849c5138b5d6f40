"""The `/finetune` endpoint: train on a file or on rows, and stream the run's status."""

import time
from collections.abc import Iterator
from typing import Any

from app.errors import BadInput
from app.finetune.data import Conversation, check_rows
from app.finetune.data_files import read_file
from app.finetune.options import TrainOptions
from app.finetune.runs import UNDER_WAY
from app.finetune.service import FinetuneService
from tabs.shell.page import Visitor
from tabs.shell.upload_cleanup import NotUploaded, discard, uploaded

WATCH_SECONDS = 1.0


class NoFile(BadInput):
    zh = "请先选择一个数据文件：JSON、JSONL、CSV 或 Parquet。"
    en = "Choose a data file first: JSON, JSONL, CSV or Parquet."


def finetune(
    service: FinetuneService,
    visitor: Visitor,
    name: str,
    base: str,
    data: Any,
    steps: int = 20,
    options: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train and tell how it goes. `data`: a file, a list of rows in any known form, or a kept data set's name."""
    chosen = TrainOptions.read({**(options or {}), "steps": steps})
    run = service.submit(visitor.name, name, base, _rows(service, visitor, data), chosen, language=visitor.language)
    while True:
        status = service.status(visitor.name, run.id)
        yield status
        if status["state"] not in UNDER_WAY:
            return
        time.sleep(WATCH_SECONDS)


def _rows(service: FinetuneService, visitor: Visitor, data: Any) -> list[Conversation]:
    if isinstance(data, str):
        return service.datasets.read(visitor.name, data)
    if isinstance(data, list):
        return check_rows(enumerate(data, 1))
    if not isinstance(data, dict) or "path" not in data:
        raise NoFile
    try:
        [(path, _)] = uploaded(data)
    except NotUploaded as error:
        raise NoFile from error
    conversations = read_file(path)
    discard([path])
    return conversations
