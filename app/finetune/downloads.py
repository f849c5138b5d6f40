"""Downloads of a checkpoint: the PEFT adapter, the merged model, or a GGUF file with its Modelfile."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Any

from app.errors import BadInput, Language
from app.finetune import process
from app.finetune.adapter_host import AdapterHost
from app.finetune.estimate import MIB, measure_base, require_disk
from app.finetune.gguf.convert import refuse_unknown
from app.finetune.gguf.quantise import FORMATS
from app.finetune.judging import Interrupted
from app.finetune.runs import Run, RunStore
from app.texts import sentence

LOOK_SECONDS = 0.2
PART = 1 << 20
Offered = tuple[str, Path, int]  # its name inside, the file, when it was last changed in nanoseconds
PATH = "tuning/download"  # relative, so that it also holds behind a proxy's prefix


class MergeFailed(BadInput):
    zh = "合并或导出失败：{reason}"
    en = "Merging or exporting failed: {reason}"


class NotExported(BadInput):
    zh = "这个检查点还没有导出为 {wanted}。请先把它设为成品，再点“{button}”：它会写出 GGUF 并逐一测量。"
    en = "This checkpoint has no {wanted} yet: make it the run's model, then press “{button}”, which writes it."


@dataclass(frozen=True)
class Download:
    """A ZIP file that is written while it is sent: nothing of it lies on the disk."""

    owner: str
    name: str
    files: tuple[Offered, ...]

    def stream(self) -> Generator[bytes, None, None]:
        """All files are opened before the first part, so that what is deleted or replaced meanwhile is sent whole.

        Raises OSError before it where a file is gone, or another one by now.
        """
        sent = _Sent()
        with ExitStack() as opened:
            sources = [opened.enter_context(path.open("rb")) for _, path, _ in self.files]
            changed = [os.fstat(source.fileno()).st_mtime_ns for source in sources]
            if changed != [known for _, _, known in self.files]:
                raise FileNotFoundError(self.name)
            told = [zipfile.ZipInfo.from_file(path, name) for name, path, _ in self.files]
            with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:  # weights hardly shrink
                for entry, source in zip(told, sources, strict=True):
                    with archive.open(entry, "w", force_zip64=True) as target:
                        while part := source.read(PART):
                            target.write(part)
                            yield sent.take()
        yield sent.take()


class _Sent(io.RawIOBase):
    """Where a ZIP file is written to, to be taken away in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def offer(
    store: RunStore, registry: AdapterHost, run: Run, step: int, kind: str, room: Callable[[int], None]
) -> Download:
    """A checkpoint to fetch. `kind` is adapter, merged or a format of GGUF.

    A merged model that the run has not is made once, `room` raises where its owner may not have so many MiB of disk.
    Raises NotExported; DiskTooFull and DoesNotFit where there is no room to merge.
    """
    name = f"{run.name}-{step}{'' if kind == 'adapter' else f'-{kind}'}.zip"
    if kind == "merged":
        with store.merging(run.id):  # two that ask at once get one model, another checkpoint's does not come between
            return Download(run.owner, name, _files_in(_merged(store, registry, store.get(run.id), step, room)))
    if kind not in FORMATS:
        return Download(run.owner, name, _files_in(store.adapter_folder(run.id, step)))
    file = store.gguf_files(run).get(kind) if run.merged == step else None
    if file is None:
        language: Language = "zh" if run.language == "zh" else "en"
        raise NotExported(wanted=kind, button=sentence(language, "compare.finish"))
    modelfile = file.parent / f"Modelfile-{kind}"
    return Download(run.owner, name, (_offered(file.name, file), _offered("Modelfile", modelfile)))


def _files_in(folder: Path) -> tuple[Offered, ...]:
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    if not found:  # it was deleted meanwhile
        raise FileNotFoundError(folder)
    return tuple(_offered(str(file.relative_to(folder)), file) for file in found)


def _offered(name: str, path: Path) -> Offered:
    return name, path, path.stat().st_mtime_ns


def _merged(store: RunStore, registry: AdapterHost, run: Run, step: int, room: Callable[[int], None]) -> Path:
    """The run's own merged model, or one for a download alone, kept until another one is asked for."""
    adapter, folder = store.adapter_folder(run.id, step), store.folder_of(run.id).resolve()
    if run.merged == step and store.merged_folder(run.id).is_dir():
        return store.merged_folder(run.id)
    kept = folder / f"merged-{step}"
    if not kept.is_dir() or kept.stat().st_mtime < adapter.stat().st_mtime:
        for earlier in folder.glob("merged-*"):
            shutil.rmtree(earlier)
        room(measure_base(registry.folder(run.base), run.base).parameters * 2 // MIB)
        with TemporaryDirectory(dir=folder) as work:
            merge(registry, run, adapter, Path(work) / "model").replace(kept)
    return kept


def merge(
    registry: AdapterHost, run: Run, adapter: Path, target: Path, stopped: Callable[[], bool] = lambda: False
) -> Path:
    """The run's base with `adapter` in its weights, written to `target` by a process of its own, in main memory.

    Whoever holds `RunStore.merging` calls this, since the room is booked under the run's name. Raises DiskTooFull and
    DoesNotFit before, Interrupted soon after `stopped` has become true.
    """
    base, work = registry.folder(run.base).resolve(), target.parent
    size = measure_base(base, run.base).parameters
    require_disk(work, size * 2 // MIB)
    name = f"merge: {run.name} ({run.id})"
    with registry.hold("trainer", name, size * 4 // MIB, _nothing, keep=False):  # in float32
        arguments = [str(base), run.base, str(adapter.resolve()), str(target)]
        _run_tool(arguments, work.parent, "app.finetune.merging", stopped)
    return target


def _run_tool(arguments: list[str], folder: Path, module: str, stopped: Callable[[], bool]) -> None:
    """Raises MergeFailed, Interrupted."""
    child = process.start_tool(arguments, folder, module)
    while child.poll() is None:
        if stopped():
            child.kill()
            child.wait()
            raise Interrupted
        with suppress(TimeoutExpired):
            child.wait(LOOK_SECONDS)
    if child.returncode:
        raise MergeFailed(reason=process.last_words(folder))


def keep_merged(registry: AdapterHost, store: RunStore, run: Run, stopped: Callable[[], bool]) -> Run:
    """Make the chosen checkpoint's merged model a part of the run, in place of another checkpoint's.

    Whoever has withdrawn the old one calls this. Raises MergeFailed, DiskTooFull, DoesNotFit or Interrupted.
    """
    with store.merging(run.id), TemporaryDirectory(dir=store.folder_of(run.id).resolve()) as work:
        made = merge(registry, run, store.adapter_folder(run.id, run.chosen), Path(work) / "model", stopped)
        shutil.rmtree(store.merged_folder(run.id), ignore_errors=True)
        made.replace(store.merged_folder(run.id))
        return store.change(run.id, merged=run.chosen)


def keep_gguf(registry: AdapterHost, store: RunStore, run: Run, stopped: Callable[[], bool]) -> None:
    """Export the run's merged model as GGUF files, each with a Modelfile, as a part of the run.

    Raises CannotExport, MergeFailed, DiskTooFull, DoesNotFit or Interrupted.
    """
    folder, whole = store.folder_of(run.id).resolve(), store.merged_folder(run.id).resolve()
    refuse_unknown(whole, run.model)
    size = measure_base(whole, run.model).parameters
    require_disk(folder, size * 4 // MIB)
    with ExitStack() as room:
        room.enter_context(registry.hold("trainer", f"export: {run.name}", size * 3 // MIB, _nothing, keep=False))
        made = Path(room.enter_context(TemporaryDirectory(dir=folder))) / "gguf"
        made.mkdir()
        arguments = [str(whole), run.name, str(made)]
        _run_tool(arguments, folder, "app.finetune.gguf.convert", stopped)
        made.replace(store.gguf_folder(run.id))


def _nothing(_: object) -> None:
    """The room alone is held."""
