"""Try the server's interfaces with the clients that people have, each installed apart; the last lines are a table.

python -m bench.check_clients [CLIENT …]      needs pip's index, and npm with Node 20 for two of them

A client's environment is made below `data/clients` and kept. The server is a process of its own with the packaged model
and, for tools, the same weights under a chat template that knows tools.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.knowledge.retrieve.embedders import PACKAGED as EMBEDDER
from app.models.catalog import known_models, sources
from bench.measure import DATA

PLACE = DATA.absolute() / "clients"
SCRIPTS = Path(__file__).parent / "clients"
MODEL = known_models.PACKAGED
SECONDS = 900
TOOL_TEMPLATE = """{% if tools %}<|im_start|>system
Call functions: {{ tools | tojson }}<|im_end|>
{% endif %}{% for turn in messages %}<|im_start|>{{ turn.role }}
{{ turn.content }}{% for call in turn.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@dataclass(frozen=True)
class Server:
    """`caller` is the model that knows tools, `folder` that of the packaged model."""

    url: str
    caller: str
    folder: Path


@dataclass(frozen=True)
class Client:
    """`packages` are pip's, or npm's where `node`; `commands` are what is run in its environment, by what it tries."""

    packages: tuple[str, ...]
    commands: Callable[[Server, Path], dict[str, list[str]]]
    node: bool = False

    def install(self, place: Path) -> None:
        if (place / "installed").exists():
            return
        if self.node:
            run(["npm", "install", "--silent", "--prefix", str(place), *self.packages])
        else:
            run([sys.executable, "-m", "venv", "--without-pip", str(place)])
            pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python")]
            run([*pip, "install", "--quiet", *self.packages])
        (place / "installed").touch()


def run(command: list[str]) -> str:
    """Its output. Raises CalledProcessError."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    quiet = {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment | quiet)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n")
    done.check_returncode()
    return done.stdout + done.stderr


def script(name: str) -> Callable[[Server, Path], dict[str, list[str]]]:
    """A program of `bench/clients` that prints `ok: WHAT` for each thing it has tried."""

    def commands(server: Server, place: Path) -> dict[str, list[str]]:
        if name.endswith(".mjs"):
            shutil.copy(SCRIPTS / name, place)  # node looks for modules where the program lies
            return {"": ["node", str(place / name), server.url]}
        return {"": [str(place / "bin" / "python"), str(SCRIPTS / name), f"{server.url}/v1", server.caller, EMBEDDER]}

    return commands


def lm_eval(server: Server, place: Path) -> dict[str, list[str]]:
    """Two small tasks of our own: one that generates, one that compares likelihoods."""
    questions = [("France", "Paris", 0), ("Germany", "Berlin", 1)]
    rows = [{"place": place_, "answer": answer, "gold": gold} for place_, answer, gold in questions]
    (place / "capitals.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shared = {
        "dataset_path": "json",
        "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(place / "capitals.jsonl")}},
    }
    kinds = {
        "generate": {
            "output_type": "generate_until",
            "doc_to_text": "What is the capital of {{place}}?",
            "doc_to_target": "The capital of {{place}} is {{answer}}.",
            "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 24, "temperature": 0},
            "metric_list": [{"metric": "exact_match"}],
        },
        "loglikelihood": {
            "output_type": "multiple_choice",
            "doc_to_text": "The capital of {{place}} is",
            "doc_to_choice": ["Paris", "Berlin"],
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc"}],
        },
    }
    for name, task in kinds.items():
        (place / f"{name}.yaml").write_text(json.dumps({"task": name, **shared, **task}))
    base = [str(place / "bin" / "lm_eval"), "--include_path", str(place)]
    where = f"model={MODEL},base_url={server.url}/v1"
    chat = [*base, "--model", "local-chat-completions", "--apply_chat_template", "--tasks", "generate"]
    text = [*base, "--model", "local-completions", "--tasks", "loglikelihood"]
    return {
        "a task that generates": [*chat, "--model_args", f"{where}/chat/completions,num_concurrent=2"],
        "a task of likelihoods": [*text, "--model_args", f"{where}/completions,tokenizer={server.folder}"],
    }


def inspector(server: Server, place: Path) -> dict[str, list[str]]:
    """Every tool once."""
    base = [str(place / "node_modules" / ".bin" / "mcp-inspector"), "--cli", f"{server.url}/mcp", "--transport", "http"]
    calls = {
        "list_models": (),
        "chat": ("message=What is the capital of France?", "temperature=0", "max_new_tokens=12"),
        "solve_with_python": ("task=What is 17 times 23?", "max_steps=2"),
        "list_collections": (),
        "search_documents": ("query=safetensors", "k=2"),
        "ask_documents": ("question=Why are safetensors considered safer?",),
    }
    listed = {"tools/list": [*base, "--method", "tools/list"]}
    called = {
        name: [
            *base,
            "--method",
            "tools/call",
            "--tool-name",
            name,
            *(part for given in arguments for part in ("--tool-arg", given)),
        ]
        for name, arguments in calls.items()
    }
    return listed | called


def schemathesis(server: Server, place: Path) -> dict[str, list[str]]:
    command = [str(place / "bin" / "schemathesis"), "run", f"{server.url}/v1/openapi.json", "--max-examples", "40"]
    return {"every operation of /v1/openapi.json, all checks": [*command, "--checks", "all", "--no-color"]}


CLIENTS = {
    "openai": Client(("openai==3.57.0",), script("openai_use.py")),
    "litellm": Client(("litellm==1.110.2",), script("litellm_use.py")),
    "lm-eval": Client(("lm-eval[api]==0.4.13", "transformers"), lm_eval),
    "@gradio/client": Client(("@gradio/client@2.7.0",), script("gradio_use.mjs"), node=True),
    "@modelcontextprotocol/inspector": Client(("@modelcontextprotocol/inspector@2.12.0",), inspector, node=True),
    "schemathesis": Client(("schemathesis==4.32.5",), schemathesis),
}


def caller(folder: Path) -> str:
    """The packaged model's folder again, with a template that knows tools."""
    made = PLACE / "caller"
    made.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if not file.name.startswith("chat_template") and not (made / file.name).exists():
            (made / file.name).symlink_to(file)
    config = made / "tokenizer_config.json"
    content = json.loads((folder / config.name).read_text()) | {"chat_template": TOOL_TEMPLATE}
    config.unlink()
    config.write_text(json.dumps(content))
    return str(made)


@contextmanager
def serving() -> Iterator[Server]:
    """The server as a person starts it."""
    folder = sources.fetch(known_models.find(MODEL), DATA / "models", lambda *_: None).absolute()
    name = caller(folder)
    command = [
        sys.executable,
        "run_gradio.py",
        "--port",
        "0",
        "--mcp",
        "--data",
        str(DATA / "served"),
        "--device",
        "cpu",
    ]
    english = {**os.environ, "LANG": "en_GB.UTF-8", "LC_ALL": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=english)
    assert process.stdout is not None
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("Ready: "):
                break
        else:
            raise SystemExit("".join(printed))
        threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop the server
        yield Server(line.split()[1].rstrip("/"), name, folder)
    finally:
        process.terminate()
        process.wait(30)


def tried(name: str, client: Client, server: Server) -> list[str]:
    """What worked; prints what did not."""
    place, worked = PLACE / name.replace("/", "-"), []
    try:
        client.install(place)
        commands = client.commands(server, place)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"not installed: {error}"]
    for what, command in commands.items():
        began = time.monotonic()
        try:
            output = run(command)
        except subprocess.SubprocessError as error:
            worked.append(f"**failed**: {what or type(error).__name__}")
            continue
        found = [line.removeprefix("ok: ") for line in output.splitlines() if line.startswith("ok: ")]
        worked += [what] if what else found
        print(f"{name}: {what or ', '.join(found)} ({time.monotonic() - began:.0f} s)", flush=True)
    return worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=", ".join(CLIENTS))
    chosen = parser.parse_args().clients or list(CLIENTS)
    with serving() as server:
        rows = {name: tried(name, CLIENTS[name], server) for name in chosen}
    for name, worked in rows.items():
        version = CLIENTS[name].packages[0].rpartition("@" if CLIENTS[name].node else "=")[2]
        print(f"| `{name}` | {version} | {', '.join(worked)} |")
    if any("failed" in what or "not installed" in what for worked in rows.values() for what in worked):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
