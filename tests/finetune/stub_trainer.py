"""A trainer without a model: takes the launcher's arguments, writes the trainer's events, checkpoints and adapters.

`stub.json` of the run, or of all runs, may name an adapter folder to copy, a step to hold at (until it is told to stop,
is killed or finds the file `go`), to fail or to diverge at, validation losses, and `hold_in_save`: it holds with its
checkpoint half written.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from app.finetune.events import tell, tell_phase  # and no more: runs.py would import transformers at each start

POLL_SECONDS = 0.01


class Stub:
    def __init__(self, config: Path, work: Path, resumed: Path | None) -> None:
        self.folder, self.work = work.parent, work
        self.options = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["options"]
        scripts = [place / "stub.json" for place in (self.folder, self.folder.parent)]
        script = next((place for place in scripts if place.exists()), None)
        self.script: dict[str, Any] = json.loads(script.read_text()) if script else {}
        found = re.search(r"(?m)^steps = (\d+)$", config.read_text(encoding="utf-8"))
        assert found
        self.total = int(found.group(1))
        self.step = int(resumed.stem.partition("_")[2]) // self.options["accumulation"] if resumed else 0
        self.stopped = False

    def tell(self, kind: str, **event: Any) -> None:
        tell(self.folder, kind, step=self.step, **event)

    def hold(self) -> None:
        partial = self.folder / ".held"
        partial.write_text(str(os.getpid()))
        partial.rename(self.folder / "held")
        while not self.stopped and not (self.folder / "go").exists():
            time.sleep(POLL_SECONDS)

    def save(self) -> None:
        adapter = self.folder / "checkpoints" / str(self.step)
        partial = adapter.with_name(f".{self.step}.partial")
        state = self.work / f"iter_{self.step * self.options['accumulation']}.pth"
        self.work.mkdir(exist_ok=True)
        partial.mkdir(parents=True, exist_ok=True)
        if self.script.get("hold_in_save") == self.step:
            state.write_bytes(b"half")
            self.hold()
        state.write_bytes(b"whole" * 1000)
        if "adapter" in self.script:
            shutil.copytree(self.script["adapter"], partial, dirs_exist_ok=True)
        shutil.rmtree(adapter, ignore_errors=True)
        partial.rename(adapter)
        self.tell("checkpoint")

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", True))
        sys.stdout.write("01/02 - mmengine - INFO - as the trainer's log begins\n")
        tell_phase(self.folder, "answers", 16, 26)
        if self.script.get("hold_at") == "start":
            self.hold()
        self.tell("started", total=self.total)
        while self.step < self.total:
            self.step += 1
            if self.script.get("fail_at") == self.step:
                raise RuntimeError(self.script.get("fails_with", "the stub was told to fail"))
            if self.script.get("diverges_at") == self.step:
                self.tell("diverged")
                sys.exit(1)
            self.tell("step", loss=round(4 / self.step, 4), rate=1e-3)
            if self.script.get("hold_at") == self.step:
                self.hold()
            if "validation" in self.script:
                self.tell("validation", loss=self.script["validation"][self.step - 1])
            if self.stopped or self.step % self.options["save_every"] == 0 or self.step == self.total:
                self.save()
            if self.stopped:
                self.tell("stopped")
                return
        self.tell("finished", early="validation" in self.script)


if __name__ == "__main__":
    _, _, config, _, work, *resumed = sys.argv
    Stub(Path(config), Path(work), Path(resumed[1]) if resumed else None).run()
