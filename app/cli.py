"""Command line interface: `python -m app COMMAND`, the services without a page; `--help` lists the commands."""

import argparse
import getpass
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import StudioError
from app.evaluate import command as evaluation
from app.finetune.command import add_options, finetune
from app.process import prepare_process
from app.settings import read_settings
from app.terminal import say, terminal_language

if TYPE_CHECKING:
    from app.models.interface import Message, Sampling
    from app.services import Services

EXIT_WORDS = ("exit", "quit", "退出")


def main(arguments: Sequence[str]) -> int:
    """Run one command; what follows `--` are settings, as for run_gradio.py."""
    own, settings = _split(arguments)
    options = _parser().parse_args(own)
    prepare_process("warning")
    try:
        return int(options.run(options, settings))
    except StudioError as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    own = list(arguments)
    if "--" not in own:
        return own, []
    at = own.index("--")
    return own[:at], own[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    from app.models.interface import Sampling

    usual = Sampling()
    parser = argparse.ArgumentParser(prog="python -m app", epilog="Settings follow after --, as for run_gradio.py.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, list[str]], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        return added

    chat = command("chat", _chat, "chat with a model in the terminal; `exit` ends it")
    chat.add_argument(
        "--model", default="", help="catalog name, hub repository or folder (default: as the settings say)"
    )
    chat.add_argument("--system", default="", help="system prompt")
    chat.add_argument("--temperature", type=float, help="0: always the most likely token; by default the model's own")
    chat.add_argument("--top-p", type=float)
    chat.add_argument("--max-new-tokens", type=int, default=usual.max_new_tokens, help="longest answer in tokens")
    chat.add_argument("--seed", type=int, help="the same seed and settings give the same answer")
    download = command("download", _download, "fetch a hub repository, or one file of it")
    download.add_argument("repository", help="catalog name or owner/name, such as internlm/internlm-20b")
    download.add_argument("file", nargs="?", help="one file, such as config.json")
    tune = command("finetune", _finetune, "train an adapter by XTuner; the model BASE+NAME is on the page afterwards")
    add_options(tune)
    key = command("key", _key, "make an API key for somebody, or a new one in place of the old")
    key.add_argument("name", help="whose key it is: a login name, where there are logins")
    key.add_argument("--file", type=Path, default=Path("api-keys"), help="where its hash is kept: the setting api_keys")
    marks = command("evaluate", _evaluate, "ask models the questions of a task and mark their answers")
    evaluation.add_options(marks)
    user = command("user", _user, "give a person a login, or a new password; asks for the password")
    user.add_argument("name")
    user.add_argument("--file", type=Path, default=Path("users"), help="the users file for --auth (default: users)")
    index = command("index", _index, "make a document collection follow a folder; again: only what changed")
    index.add_argument("collection", help="its name; made if it is not there")
    index.add_argument("folder", type=Path, help="the folder; files that vanished from it leave the collection")
    index.add_argument("--login", default="", help="whose it is; without: everyone who may open the page can ask it")
    command("recommend", _recommend, "which better models this machine could run, and how to get them")
    command("doctor", _doctor, "what this machine offers: device, memory, and whether the sandbox holds")
    return parser


def _key(options: argparse.Namespace, _: list[str]) -> int:
    from app.access.api_keys import add_key

    print(add_key(options.file, options.name))
    return 0


def _evaluate(options: argparse.Namespace, settings: list[str]) -> int:
    from app.services import build_services

    services = build_services(read_settings(settings))
    try:
        return evaluation.evaluate(services.evaluate, options)
    finally:
        services.close()


def _user(options: argparse.Namespace, _: list[str]) -> int:
    from app.access.accounts import keep_account

    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    keep_account(options.file, options.name, password)
    say("terminal.login_kept", name=options.name, file=options.file)
    return 0


def _recommend(_: argparse.Namespace, settings: list[str]) -> int:
    from app.models.better_model import BetterModel
    from app.models.registry.placement import choose_placement
    from app.models.registry.registry import ModelRegistry

    placement, default_name = choose_placement(read_settings(settings))
    better = BetterModel(ModelRegistry(placement, default_name))
    say("terminal.runs", name=default_name, device=placement.device, budget=placement.budget_mib)
    for offer in better.offers():
        note = offer.note_zh if terminal_language() == "zh" else offer.note_en
        say("terminal.offer", **vars(offer) | {"speed": round(offer.tokens_per_second, 1), "note": note})
    say("terminal.get_one" if better.hub_answers() else "terminal.bring_one", host=better.hub_host)
    return 0


def _doctor(_: argparse.Namespace, settings: list[str]) -> int:
    from app.agent.sandbox.probe import probe
    from app.models.registry.placement import choose_placement

    placement, default_name = choose_placement(read_settings(settings))
    print(f"device {placement.device}, budget {placement.budget_mib} MiB, model {default_name}")
    for found in probe().lines():
        print(found)
    return 0


def _chat(options: argparse.Namespace, settings: list[str]) -> int:
    from app.models.interface import Sampling
    from app.services import build_services

    extra = ["--model", options.model] if options.model else []
    services = build_services(read_settings([*settings, *extra]), with_knowledge=False)
    try:
        sampling = Sampling(
            options.temperature, options.top_p, None, options.max_new_tokens, options.seed, thinking=None
        )
        converse(services, options.system, sampling)
    finally:
        services.close()
    return 0


def converse(services: "Services", system: str, sampling: "Sampling") -> None:
    """Read a line, stream the answer, until an exit word or the end of input; Ctrl-C stops an answer."""
    from app.terminal import show_loading

    name = services.registry.default_name
    show_loading(services.registry, name)
    with services.registry.lease(name) as model:
        say("terminal.hello", name=name)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        while (line := _ask()) is not None:
            messages.append({"role": "user", "content": line})
            generation = model.stream(messages, sampling, drop_oldest=True)
            pieces: list[str] = []
            try:
                for piece in generation:
                    pieces.append(piece)
                    print(piece, end="", flush=True)
            except KeyboardInterrupt:
                generation.cancel()
            print("\n", flush=True)
            messages.append({"role": "assistant", "content": "".join(pieces)})


def _ask() -> str | None:
    """The next question; None at an exit word or the end of input."""
    while True:
        try:
            line = input(">>> ").strip()
        except EOFError:
            return None
        if line.lower() in EXIT_WORDS:
            return None
        if line:
            return line


def _finetune(options: argparse.Namespace, settings: list[str]) -> int:
    from app.services import build_services

    services = build_services(read_settings(settings), with_knowledge=False)
    try:
        return finetune(options, services.finetune, services.registry.default_name)
    finally:
        services.close()


def _index(options: argparse.Namespace, settings: list[str]) -> int:
    from app.knowledge.command import index

    return index(read_settings(settings), options.collection, options.folder, options.login, sys.stdout)


def _download(options: argparse.Namespace, settings: list[str]) -> int:
    from app.models.catalog.download_command import download

    download(options.repository, options.file, read_settings(settings).data / "models", sys.stdout)
    return 0
