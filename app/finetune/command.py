"""The `python -m app finetune` command."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.access.identity import server
from app.errors import BadInput, Language
from app.finetune.data import Conversation
from app.finetune.data_files import read_bytes
from app.finetune.options import LIMITS, TrainOptions
from app.finetune.runs import UNDER_WAY
from app.finetune.wizard import general_questions, introduce, name_questions
from app.finetune.xtuner_import import ImportedConfig, read_config

if TYPE_CHECKING:
    from app.finetune.service import FinetuneService

OWNER = server("terminal")  # whoever has the machine trains for the server
WATCH_SECONDS = 1.0


class NothingToLearn(BadInput):
    zh = "请用 --learn-name 给出名字，或用 --file 给出数据文件。"
    en = "Give a name with --learn-name, or a data file with --file."


class UnreadableFile(BadInput):
    zh = "读不了文件 {path}：{reason}"
    en = "The file {path} cannot be read: {reason}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own flags; every training setting is one."""
    parser.add_argument("name", help="name of the run; the tuned model is called BASE+NAME")
    parser.add_argument("--base", default="", help="base model (default: the server's)")
    parser.add_argument("--learn-name", default="", help="make self-introduction data for this name")
    parser.add_argument("--wording", default="", help="how it introduces itself, with {name} in it")
    parser.add_argument("--data-language", choices=("zh", "en"), default="en", help="language of that data")
    about = "learn the written answers to the general questions, not what the base itself says"
    parser.add_argument("--written-answers", action="store_true", help=about)
    parser.add_argument("--file", type=Path, help="own data: JSON, JSONL, CSV or Parquet")
    about = "a user's own XTuner configuration, read and never run; flags given here win over it"
    parser.add_argument("--config", type=Path, dest="xtuner_config", help=about)
    parser.add_argument("--method", choices=("lora", "qlora"), help=f"(default: {TrainOptions.method})")
    about = "then merge it, load it whole and at 4 bits, and measure each step"
    parser.add_argument("--finish", action="store_true", help=about)
    normal = TrainOptions()
    for key, (low, high) in LIMITS.items():
        value = getattr(normal, key)
        flag = "--" + key.replace("_", "-")
        parser.add_argument(flag, type=type(value), help=f"{low:g} to {high:g} (default: {value})")


def finetune(options: argparse.Namespace, service: "FinetuneService", default_base: str) -> int:
    """Train, tell each change in a line, and return 0 when the run has finished. Ctrl-C saves and stops."""
    imported = _imported(options.xtuner_config)
    conversations, identity, general = _conversations(options, imported)
    given = {key: getattr(options, key) for key in ("method", *LIMITS)}
    chosen = TrainOptions.read({**(imported.options if imported else {}), **_without_none(given)})
    language: Language = options.data_language
    run = service.submit(
        OWNER,
        options.name,
        options.base or (imported.base if imported else "") or default_base,
        conversations,
        chosen,
        questions=(imported and imported.questions) or [name_questions(language)[0], general_questions(language)[0]],
        language=language,
        identity=identity,
        own_answers=() if options.written_answers else general,
    )
    try:
        state = _follow(service, run.id)
    except KeyboardInterrupt:
        service.stop(OWNER, run.id)
        state = _follow(service, run.id)
    if state == "finished" and options.finish:
        _finish(service, run.id)
    status = service.status(OWNER, run.id)
    _say(status["reason"] or f"{run.model}: {service.store.adapter_folder(run.id, service.get(OWNER, run.id).chosen)}")
    return 0 if state == "finished" else 1


def _imported(path: Path | None) -> ImportedConfig | None:
    """The configuration, once what is taken from it was told."""
    if path is None:
        return None
    found = read_config(_content(path))
    told = {"base": found.base, "data": found.data, **found.options, "questions": " | ".join(found.questions)}
    _say(f"{path.name}: {', '.join(f'{key} {value}' for key, value in told.items() if value)}")
    for missing in (*found.unread, *(["SYSTEM"] if found.system else [])):
        _say(f"{path.name}: {missing} is not taken over")
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(path=path, reason=error.strerror) from error


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _conversations(
    options: argparse.Namespace, imported: ImportedConfig | None
) -> tuple[list[Conversation], str, tuple[int, ...]]:
    """A configuration's data lies beside it, unless its path is a whole one."""
    if options.file:
        return _read(options.file, options.data_language), "", ()
    if imported and imported.data and not options.learn_name:
        return _read(options.xtuner_config.parent / imported.data, options.data_language), "", ()
    if not options.learn_name:
        raise NothingToLearn
    made = introduce(options.learn_name, options.data_language, options.wording)
    return made.conversations, made.name, made.general


def _read(path: Path, language: Language) -> list[Conversation]:
    """The rows, once what was changed in them was told."""
    conversations = read_bytes(_content(path))
    for note in conversations.notes:
        _say(f"{path.name}: {note.text(language)}")
    return conversations


def _follow(service: "FinetuneService", run_id: str) -> str:
    """Print steps, sample answers and judgements as they come, until all is over; returns the run's state."""
    shown, samples = -1, 0
    while True:
        status, progress = service.status(OWNER, run_id), service.progress(OWNER, run_id)
        if status["step"] != shown and status["loss"] is not None:
            shown = status["step"]
            left = "" if status["eta_s"] is None else f"  {status['eta_s']:.0f} s"
            _say(f"{shown}/{status['total']}  loss {status['loss']:.3f}{left}")
        for sample in progress.samples[samples:]:
            _say(f"[{sample.step}] {sample.question} -> {sample.answer}")
        samples = len(progress.samples)
        if status["state"] not in UNDER_WAY:
            break
        time.sleep(WATCH_SECONDS)
    told = 0
    while True:
        is_judging = service.get(OWNER, run_id).judging
        judged = service.judgements(OWNER, run_id)
        for found in judged[told:]:
            name = "" if found.identity is None else f"name {found.identity:.2f}  "
            _say(f"[{found.step}] {name}kept {found.retention:.2f}")
        told = len(judged)
        if not is_judging:
            return str(status["state"])
        time.sleep(WATCH_SECONDS)


def _finish(service: "FinetuneService", run_id: str) -> None:
    """Print each row of the table as it comes."""
    service.finish(OWNER, run_id)
    told = 0
    while True:
        under_way = service.get(OWNER, run_id).finishing
        rows = service.finished(OWNER, run_id)
        for row in rows[told:]:
            figures = {**row.as_dict(), "reason": row.reason.replace("\n", " ")}
            _say("  ".join(f"{key} {value}" for key, value in figures.items() if value not in (None, "")))
        told = len(rows)
        if not under_way:
            _say(service.get(OWNER, run_id).finishing_reason)
            return
        time.sleep(WATCH_SECONDS)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
