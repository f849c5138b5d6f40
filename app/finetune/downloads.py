"""Pack a checkpoint for download: the PEFT adapter, the merged model, or a GGUF file with its Modelfile."""

import shutil
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory

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


class MergeFailed(BadInput):
    zh = "合并或导出失败：{reason}"
    en = "Merging or exporting failed: {reason}"


class NotExported(BadInput):
    zh = "这个检查点还没有导出为 {wanted}。请先把它设为成品，再点“{button}”：它会写出 GGUF 并逐一测量。"
    en = "This checkpoint has no {wanted} yet: make it the run's model, then press “{button}”, which writes it."


def pack(
    store: RunStore,
    registry: AdapterHost,
    run: Run,
    step: int,
    kind: str,
    room: Callable[[int], None],
) -> Path:
    """A ZIP file in the run's folder; made once. `kind` is adapter, merged or a format of GGUF.

    A merged model that the run has already is not made again. `room` raises where so many MiB of disk are not free.
    Raises NotExported.
    """
    adapter, folder = store.adapter_folder(run.id, step), store.folder_of(run.id).resolve()
    merged = kind == "merged"
    packed = folder / f"{run.name}-{step}{'' if kind == 'adapter' else f'-{kind}'}.zip"
    if kind in FORMATS:
        return _pack_gguf(store, run, step, kind, packed, room)
    if packed.exists() and packed.stat().st_mtime > adapter.stat().st_mtime:
        return packed
    if merged:
        room(measure_base(registry.folder(run.base), run.base).parameters * 4 // MIB)
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


def _pack_gguf(store: RunStore, run: Run, step: int, wanted: str, packed: Path, room: Callable[[int], None]) -> Path:
    file = store.gguf_files(run).get(wanted) if run.merged == step else None
    if file is None:
        language: Language = "zh" if run.language == "zh" else "en"
        raise NotExported(wanted=wanted, button=sentence(language, "compare.finish"))
    if not (packed.exists() and packed.stat().st_mtime > file.stat().st_mtime):
        room(file.stat().st_size // MIB)
        with TemporaryDirectory(dir=packed.parent) as work:
            made = Path(work) / "packed.zip"
            with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
                archive.write(file, file.name)
                archive.write(file.parent / f"Modelfile-{wanted}", "Modelfile")
            made.replace(packed)
    return packed


def merge(
    registry: AdapterHost, run: Run, adapter: Path, target: Path, stopped: Callable[[], bool] = lambda: False
) -> Path:
    """The run's base with `adapter` in its weights, written to `target` by a process of its own.

    Raises Interrupted soon after `stopped` has become true.
    """
    arguments = [str(registry.folder(run.base).resolve()), run.base, str(adapter.resolve()), str(target)]
    _run_tool(arguments, target.parents[1], "app.finetune.merging", stopped)
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
