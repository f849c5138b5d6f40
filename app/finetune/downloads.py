"""A checkpoint as one file to take away: the PEFT adapter, or the base with the adapter merged in."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from app.errors import BadInput
from app.finetune import process
from app.finetune.queue import AdapterHost
from app.finetune.runs import Run, RunStore


class MergeFailed(BadInput):
    zh = "合并失败：{reason}"
    en = "Merging failed: {reason}"


def pack(store: RunStore, registry: AdapterHost, run: Run, step: int, *, merged: bool) -> Path:
    """A ZIP file in the run's folder; made once."""
    adapter, folder = store.adapter_folder(run.id, step), store.folder_of(run.id).resolve()
    packed = folder / f"{run.name}-{step}{'-merged' if merged else ''}.zip"
    if packed.exists() and packed.stat().st_mtime > adapter.stat().st_mtime:
        return packed
    with TemporaryDirectory(dir=folder) as work:
        source = merge(registry, run, adapter, Path(work) / "model") if merged else adapter
        made = shutil.make_archive(str(Path(work) / "packed"), "zip", source)
        return Path(made).replace(packed)


def merge(registry: AdapterHost, run: Run, adapter: Path, target: Path) -> Path:
    """The run's base with `adapter` in its weights, written to `target` by a process of its own."""
    folder = target.parents[1]
    arguments = [str(registry.folder(run.base).resolve()), run.base, str(adapter.resolve()), str(target)]
    if process.start_tool(arguments, folder, "app.finetune.merging").wait():
        raise MergeFailed(reason=process.last_words(folder))
    return target
