"""Events of a training, one JSON line each, appended by the training process and read by the server."""

import json
import time
from pathlib import Path
from typing import Any, Literal

FILE = "events.jsonl"
Phase = Literal["libraries", "base", "answers", "data"]  # of the start, in their order


def tell(folder: Path, kind: str, **event: Any) -> None:
    """Append an event to a run's file."""
    line = json.dumps({"time": time.time(), "kind": kind, **event}, ensure_ascii=False)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def tell_phase(folder: Path, phase: Phase, done: int = 0, total: int = 0) -> None:
    """What the start is busy with, with counts where there are any."""
    tell(folder, "phase", phase=phase, done=done, total=total)
