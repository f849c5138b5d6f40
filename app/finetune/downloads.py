"""Pack a checkpoint for download: the PEFT adapter, or the merged model."""

import shutil
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory

from app.errors import BadInput
from app.finetune import process
from app.finetune.estimate import MIB, measure_base, require_disk
from app.finetune.judging import Interrupted
from app.finetune.queue import AdapterHost
from app.finetune.runs import Run, RunStore

LOOK_SECONDS = 0.2


class MergeFailed(BadInput):
    zh = "合并失败：{reason}"
    en = "Merging failed: {reason}"


def pack(store: RunStore, registry: AdapterHost, run: Run, step: int, *, merged: bool) -> Path:
    """A ZIP file in the run's folder; made once. A merged model that the run has already is not made again."""
    adapter, folder = store.adapter_folder(run.id, step), store.folder_of(run.id).resolve()
    packed = folder / f"{run.name}-{step}{'-merged' if merged else ''}.zip"
    if packed.exists() and packed.stat().st_mtime > adapter.stat().st_mtime:
        return packed
    if merged:
        require_disk(folder, measure_base(registry.folder(run.base), run.base).parameters * 4 // MIB)
    with TemporaryDirectory(dir=folder) as work:
        source = adapter
        if merged:
            ready = store.merged_folder(run.id)
            is_ready = run.merged == step and ready.is_dir()
            source = ready if is_ready else merge(registry, run, adapter, Path(work) / "model")
        made = Path(work) / "packed.zip"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:  # weights hardly shrink
            for file in sorted(path for path in source.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(source))
        return made.replace(packed)


def merge(
    registry: AdapterHost, run: Run, adapter: Path, target: Path, stopped: Callable[[], bool] = lambda: False
) -> Path:
    """The run's base with `adapter` in its weights, written to `target` by a process of its own.

    Raises Interrupted soon after `stopped` has become true.
    """
    folder = target.parents[1]
    arguments = [str(registry.folder(run.base).resolve()), run.base, str(adapter.resolve()), str(target)]
    child = process.start_tool(arguments, folder, "app.finetune.merging")
    while child.poll() is None:
        if stopped():
            child.kill()
            child.wait()
            raise Interrupted
        with suppress(TimeoutExpired):
            child.wait(LOOK_SECONDS)
    if child.returncode:
        raise MergeFailed(reason=process.last_words(folder))
    return target


def keep_merged(registry: AdapterHost, store: RunStore, run: Run, stopped: Callable[[], bool], *, cuda: bool) -> Run:
    """Make the chosen checkpoint's merged model a part of the run, in place of another checkpoint's.

    Whoever has withdrawn the old one calls this. Raises MergeFailed, DiskTooFull, DoesNotFit or Interrupted.
    """
    folder = store.folder_of(run.id).resolve()
    size = measure_base(registry.folder(run.base), run.base).parameters
    require_disk(folder, size * 2 // MIB)
    with ExitStack() as room:
        if not cuda:  # it is merged in the machine's memory, in float32
            room.enter_context(registry.hold("trainer", f"merge: {run.name}", size * 4 // MIB, _nothing, keep=False))
        made = Path(room.enter_context(TemporaryDirectory(dir=folder))) / "model"
        merge(registry, run, store.adapter_folder(run.id, run.chosen), made, stopped)
        shutil.rmtree(store.merged_folder(run.id), ignore_errors=True)
        made.replace(store.merged_folder(run.id))
    return store.change(run.id, merged=run.chosen)


def _nothing(_: object) -> None:
    """The room alone is held."""
