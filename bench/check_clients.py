"""Try the server's interfaces with the clients that people have; the last lines are a table.

python -m bench.check_clients [CLIENT …]      needs pip's index for litellm, and npm with Node 20 for two of them

What does not come with the tests is installed in an environment of its own below `data/clients` and kept. The server is
a process of its own with a login and a key; its default model is the packaged one under a chat template that knows
tools.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from app.access.api_keys import add_key
from app.knowledge.retrieve.embedders import PACKAGED as EMBEDDER
from app.lockdown.kernel import die_with_parent
from app.models.catalog import known_models, sources
from bench.measure import DATA

PLACE = DATA.absolute() / "clients"
SCRIPTS = Path(__file__).resolve().parent / "clients"
MODEL = known_models.PACKAGED
SECONDS = 900
LOGIN = "ada:her password"
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
    """`key` opens /v1 and /mcp, `caller` is the model that knows tools, `folder` that of the packaged model."""

    url: str
    key: str
    caller: str
    folder: Path


@dataclass(frozen=True)
class Trial:
    """A command that has to end well and to print `shows`; `environment` adds to its own."""

    command: list[str]
    shows: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """`trials` are made for a server and a folder of the client's own, by what they try.

    `packages` are those to install apart: by pip, or where `node`, by npm.
    """

    name: str
    trials: Callable[[Server, Path], dict[str, Trial]]
    packages: tuple[str, ...] = ()
    node: bool = False

    @property
    def place(self) -> Path:
        return PLACE / self.name.replace("/", "-")

    @property
    def version(self) -> str:
        return self.packages[0].rpartition("@" if self.node else "=")[2] if self.packages else version(self.name)

    def install(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        if not self.packages or (self.place / "installed").exists():
            return
        if self.node:
            run(["npm", "install", "--silent", "--prefix", str(self.place), *self.packages])
        else:
            run([sys.executable, "-m", "venv", "--without-pip", str(self.place)])
            pip = [sys.executable, "-m", "pip", "--python", str(self.place / "bin" / "python")]
            # compiling litellm's 2,000 files and those of boto takes longer than all the rest
            run([*pip, "install", "--quiet", "--no-compile", "--only-binary", ":all:", *self.packages])
        (self.place / "installed").touch()


def run(command: list[str], place: Path | None = None, more: Mapping[str, str] | None = None) -> str:
    """Its output. Raises CalledProcessError."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", **(more or {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, cwd=place)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n")
    done.check_returncode()
    return done.stdout + done.stderr


def tool(name: str) -> str:
    """A program that came with the tests."""
    return str(Path(sys.executable).parent / name)


def script(name: str) -> Callable[[Server, Path], dict[str, Trial]]:
    """A program of `bench/clients` that prints `ok: WHAT` for each thing it has tried."""

    def trials(server: Server, place: Path) -> dict[str, Trial]:
        if name.endswith(".mjs"):
            shutil.copy(SCRIPTS / name, place)  # node looks for modules where the program lies
            return {"": Trial(["node", str(place / name), server.url, LOGIN], "ok: ")}
        own = place / "bin" / "python"
        python = str(own) if own.exists() else sys.executable
        return {"": Trial([python, str(SCRIPTS / name), f"{server.url}/v1", server.caller, EMBEDDER], "ok: ")}

    return trials


def lm_eval(server: Server, place: Path) -> dict[str, Trial]:
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
    base = [tool("lm_eval"), "--include_path", str(place)]
    where = f"model={MODEL},base_url={server.url}/v1"
    chat = [*base, "--model", "local-chat-completions", "--apply_chat_template", "--tasks", "generate"]
    text = [*base, "--model", "local-completions", "--tasks", "loglikelihood"]
    return {
        "a task that generates": Trial([*chat, "--model_args", f"{where}/chat/completions,num_concurrent=2"]),
        "a task of likelihoods": Trial(
            [*text, "--model_args", f"{where}/completions,tokenizer={server.folder}"], "|acc|↑  |  1|"
        ),
    }


def inspector(server: Server, place: Path) -> dict[str, Trial]:
    """Every tool once, with little to do: its command line gives up after a minute, whatever it is told."""
    program = place / "node_modules" / ".bin" / "mcp-inspector"
    key = ["--header", f"Authorization: Bearer {server.key}"]
    base = [str(program), "--cli", f"{server.url}/mcp", "--transport", "http", *key, "--method"]
    chart = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"
    calls = {
        "list_models": (MODEL,),
        "chat": (
            '"isError": false',
            f"model={MODEL}",
            "message=What is the capital of France?",
            "temperature=0",
            "max_new_tokens=12",
        ),
        "solve_with_python": ('"kind"', f"model={MODEL}", "task=What is 17 times 23?", "max_steps=1"),
        "run_python": ('"type": "image"', f"code={chart}"),
        "list_collections": ("samples",),
        "search_documents": ("safetensors", "query=safetensors", "k=2"),
        "ask_documents": ("verdict", f"model={MODEL}", "question=Why are safetensors safer?", "k=1"),
    }
    listed = {"tools/list": Trial([*base, "tools/list"], "run_python")}
    return listed | {
        name: Trial(
            [*base, "tools/call", "--tool-name", name, *(part for one in given for part in ("--tool-arg", one))], shows
        )
        for name, (shows, *given) in calls.items()
    }


def schemathesis(server: Server, _: Path) -> dict[str, Trial]:
    asked = ["run", f"{server.url}/v1/openapi.json", "-H", f"Authorization: Bearer {server.key}"]
    asked += ["--request-timeout", "300", "--max-response-time", "300"]  # 2,048 texts are embedded for long
    command = [tool("schemathesis"), *asked, "--max-examples", "40", "--checks", "all", "--no-color"]
    served = {
        "SCHEMATHESIS_HOOKS": str(SCRIPTS / "schemathesis_hooks.py"),
        "CHAT_MODEL": server.caller,
        "EMBEDDER": EMBEDDER,
        "VOCABULARY": str(json.loads((server.folder / "config.json").read_text())["vocab_size"]),
    }
    return {"every operation of /v1/openapi.json": Trial(command, environment=served)}


CLIENTS = {
    client.name: client
    for client in (
        Client("openai", script("openai_use.py")),
        Client("litellm", script("litellm_use.py"), ("litellm==1.110.2",)),
        Client("lm-eval", lm_eval),
        Client("@gradio/client", script("gradio_use.mjs"), ("@gradio/client@2.7.0",), node=True),
        Client("@modelcontextprotocol/inspector", inspector, ("@modelcontextprotocol/inspector@2.12.0",), node=True),
        Client("schemathesis", schemathesis),
    )
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
    """The server as a person starts it; it ends with this process, however that ends."""
    folder = sources.fetch(known_models.find(MODEL), DATA / "models", lambda *_: None).absolute()
    name = caller(folder)
    with tempfile.TemporaryDirectory() as held:
        key = add_key(Path(held) / "keys", LOGIN.partition(":")[0])
        data = Path(held) / "data"
        data.mkdir()
        (data / "models").symlink_to(folder.parent)
        options = ["--port", "0", "--mcp", "--device", "cpu", "--model", name, "--data", str(data)]
        process = subprocess.Popen(
            [sys.executable, "run_gradio.py", *options, "--auth", LOGIN, "--api-keys", str(Path(held) / "keys")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LANG": "en_GB.UTF-8", "LC_ALL": ""},
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
        try:
            yield Server(_address(process), key, name, folder)
        finally:
            process.terminate()
            process.wait(60)


def _address(process: "subprocess.Popen[str]") -> str:
    """Where it listens, once it does."""
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith("Ready: "):
            threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop the server
            return line.split()[1].rstrip("/")
    raise SystemExit("".join(printed))


def tried(client: Client, server: Server) -> list[str]:
    """What worked; prints what did not."""
    worked = []
    try:
        client.install()
        trials = client.trials(server, client.place)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"not installed: {error}"]
    for what, trial in trials.items():
        began = time.monotonic()
        try:
            output = run(trial.command, client.place, {"OPENAI_API_KEY": server.key, **trial.environment})
        except subprocess.SubprocessError as error:
            worked.append(f"**failed**: {what or type(error).__name__}")
            continue
        if trial.shows not in output:
            print(output[-3000:])
            worked.append(f"**failed**: {what} shows no {trial.shows!r}")
            continue
        found = [line.removeprefix("ok: ") for line in output.splitlines() if line.startswith("ok: ")]
        worked += [what] if what else found
        print(f"{client.name}: {what or ', '.join(found)} ({time.monotonic() - began:.0f} s)", flush=True)
    return worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=", ".join(CLIENTS))
    chosen = parser.parse_args().clients or list(CLIENTS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server's data folder goes as well
    with serving() as server:
        rows = {CLIENTS[name]: tried(CLIENTS[name], server) for name in chosen}
    for client, worked in rows.items():
        print(f"| `{client.name}` | {client.version} | {', '.join(worked)} |")
    if any("failed" in what or "not installed" in what for worked in rows.values() for what in worked):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
