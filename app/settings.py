"""Settings, read once: flags before environment (PUYU_PORT=8000) before file (puyu.toml) before defaults."""

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.errors import SettingsError

PREFIX = "PUYU_"
FILE = "puyu.toml"
HUGGING_FACE = "https://huggingface.co"
PRIVATE_NETWORKS = "127.0.0.1, ::1, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"  # where a Space's own proxies are
# What others call them: uvicorn; a Space with `hf_oauth: true`, and gradio.
OTHER_VARIABLES = {
    "FORWARDED_ALLOW_IPS": "trusted_proxies",
    "OPENID_PROVIDER_URL": "openid_provider",
    "OAUTH_CLIENT_ID": "oauth_client_id",
    "OAUTH_CLIENT_SECRET": "oauth_client_secret",
    "OAUTH_SCOPES": "oauth_scopes",
}


class OpenToStrangers(SettingsError):
    zh = "这样启动后，任何知道地址的人都能使用这台服务器。请用 --auth 设置登录；如果确实要公开，请加上 --public。"
    en = (
        "Started like this the server would be open to anyone who knows its address."
        " Set logins with --auth, or add --public if that is what you want."
    )


class Settings(BaseModel):
    """The field's description is its `--help`; its name is the flag (`--log-level`), the variable (PUYU_LOG_LEVEL)
    and the key in the file (log_level)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 lets other machines in")
    port: int = Field(7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    share: bool = Field(False, description="also open a public link that anyone who has it can use")
    public: bool = Field(False, description="let strangers in on purpose, without a login, under stricter limits")
    trusted_proxies: str = Field(
        "127.0.0.1, ::1",
        description="addresses or networks of reverse proxies, with commas between, that are believed about"
        " the visitor they ask for; *: all",
    )
    auth: str = Field(
        "",
        description="logins: a file made by `python -m app user`, or name:password, or huggingface to sign in there;"
        " empty: none",
    )
    allowed_users: str = Field(
        "",
        description="with --auth huggingface: accounts and organisations that may enter, with commas between;"
        " *: all, as people you know; empty: all, as strangers",
    )
    openid_provider: str = Field(HUGGING_FACE, description="who knows the accounts: any OpenID Connect provider")
    oauth_client_id: str = Field("", description="this server's name at the provider; also read from OAUTH_CLIENT_ID")
    oauth_client_secret: str = Field(
        "", repr=False, description="its password there; better in the environment, as OAUTH_CLIENT_SECRET"
    )
    oauth_scopes: str = Field("openid profile", description="what the provider is asked to tell; needs openid")
    space_host: str = Field("", description="the host name on a Hugging Face Space, which sets SPACE_HOST itself")
    api_keys: str = Field(
        "", description="keys for /v1: a file made by `python -m app key`, or NAME:KEY; with logins on, /v1 needs them"
    )
    api_lenient: bool = Field(
        False, description="/v1 ignores parameters that it does not know, instead of refusing them by name"
    )
    mcp: bool = Field(False, description="also offer the models and the sandbox as MCP tools at /mcp")
    model: str = Field("auto", description="model to start with: a catalog name, hub repository or local folder")
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="where models run")
    engine: tuple[str, ...] = Field(
        (),
        description="a model that runs elsewhere behind OpenAI's API, as NAME=URL or NAME=URL,URL#MODEL, or one that"
        " an installed engine serves here, as NAME=vllm:MODEL, lmdeploy:MODEL or sglang:MODEL, with @ENVIRONMENT;"
        " may be given several times (in the environment: separated by spaces)",
    )
    agent_tools: tuple[str, ...] = Field(
        (),
        description="an MCP server whose tools the agent may use, as NAME=COMMAND or NAME=https://ADDRESS/mcp; may be"
        " given several times (in the environment: separated by semicolons)",
    )
    agent_tools_public: bool = Field(False, description="let strangers use the tools of --agent-tools, too")
    engine_context: int = Field(8192, ge=512, description="tokens of context where an engine does not tell its own")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="number format of weights; auto suits the device"
    )
    quantise: Literal["none", "8bit", "4bit"] = Field("none", description="load weights in 8 or 4 bits")
    cache: Literal["16bit", "8bit"] = Field(
        "16bit",
        description="the cache of GGUF models: 8bit holds about twice the tokens; other models keep their dtype",
    )
    memory: int = Field(0, ge=0, description="memory budget for all models in MiB; 0: most of what is free at start")
    data: Path = Field(Path("data"), description="folder for converted models, indexes, adapters and runs")
    embedder: str = Field(
        "auto",
        description="document search: a sentence-transformers model by hub name or folder; auto: the packaged"
        " multilingual-e5-small",
    )
    reranker: str = Field(
        "", description="a sentence-transformers cross-encoder that sorts what was found; empty: none"
    )
    picture_model: str = Field(
        "sentence-transformers/clip-ViT-B-32",
        description="articles: a CLIP model that reads the pictures, by hub name or folder",
    )
    caption_model: str = Field(
        "sentence-transformers/clip-ViT-B-32-multilingual-v1",
        description="reads the captions into the same space; empty: the picture model does",
    )
    chroma_url: str = Field(
        "", description="a Chroma server for the index, http://host:port; empty: in the data folder"
    )
    folder_owners: str = Field("", description="logins, with commas between, that may index folders of this machine")
    language: Literal["auto", "zh", "en"] = Field("auto", description="language of the page; auto: the browser's")
    requests_at_once: int = Field(
        0,
        ge=0,
        description="answers one visitor may have under way; 0: on this machine alone any, with logins 8, in public 2",
    )
    tokens_per_minute: int = Field(0, ge=0, description="tokens for one visitor; 0: no limit, in public 20000")
    upload_mib_per_hour: int = Field(
        0, ge=0, description="MiB that one visitor may upload in an hour; 0: no limit, in public 300"
    )
    history_mib: int = Field(
        200, ge=0, description="MiB of conversations that one login may keep on the server; 0: no limit"
    )
    sessions: int = Field(
        0,
        ge=0,
        description="pages of one visitor that may hold files, pictures or an interpreter at once; 0: 20, in public 3",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    log_format: Literal["text", "json"] = Field("text", description="log lines for people or for programs")
    log_prompts: bool = Field(False, description="also log what visitors ask; never without telling them")
    metrics_key: str = Field("", description="key that /metrics asks for; needed when others can reach the server")

    @field_validator("engine", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("agent_tools", mode="before")
    @classmethod
    def _several_commands(cls, value: object) -> object:
        return [part for part in value.split(";") if part.strip()] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: str) -> str:
        """As uvicorn reads them: a network by its first address."""
        given = [address.strip() for address in value.split(",") if address.strip()]
        networks = {address: ip_network(address, strict=False) for address in given if address != "*"}
        return ",".join(str(networks[address]) if "/" in address else address for address in given)

    @property
    def is_open(self) -> bool:
        """Whether people on other machines can come in: by the address, a link, or a proxy on this machine."""
        return self.share or self.public or self.host not in ("127.0.0.1", "localhost", "::1")

    @property
    def is_private(self) -> bool:
        """Whether only people of this machine can come in, so that they may do here what they like."""
        return not (self.is_open or self.auth)

    @property
    def for_strangers(self) -> bool:
        """Whether people whom nobody has given a login can come in."""
        return not self.invited if self.signs_in else self.is_open and not self.auth

    @property
    def signs_in(self) -> bool:
        """Whether visitors come in with an account of the OpenID provider."""
        return self.auth == "huggingface"

    @property
    def invited(self) -> frozenset[str]:
        """Accounts and organisations that may enter; empty: all."""
        return frozenset(name.strip() for name in self.allowed_users.split(",") if name.strip())


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Read all sources. Raises SettingsError for a value that is not allowed; `--help` prints and exits."""
    environment = os.environ if environment is None else environment
    flags = vars(_parser().parse_args(arguments))
    config = flags.pop("config") or environment.get(f"{PREFIX}CONFIG")
    values = _from_elsewhere(environment) | _from_file(Path(config or FILE), required=config is not None)
    values |= {k: environment[v] for k in Settings.model_fields if (v := PREFIX + k.upper()) in environment}
    values |= {key: value for key, value in flags.items() if value is not None}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _explain(error) from error
    if settings.for_strangers and settings.is_open and not settings.public:
        raise OpenToStrangers
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_gradio.py",
        description="浦语工坊 Puyu Studio: chat with, ground, equip, tune and compare open language models.",
        epilog=f"Each flag is also an environment variable ({PREFIX}PORT=8000) and a key in {FILE} (port = 8000).",
    )
    parser.add_argument("--config", help=f"settings file (default: {FILE} where it exists)")
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        shown = f"{field.description} (default: {field.default or 'none'})"
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=shown)
        elif get_origin(field.annotation) is tuple:
            parser.add_argument(flag, action="append", default=None, metavar=name.upper(), help=shown)
        else:
            choices = _allowed(name)
            metavar = "{" + ",".join(choices) + "}" if choices else name.upper()
            parser.add_argument(flag, default=None, metavar=metavar, help=shown)
    return parser


def _from_elsewhere(environment: Mapping[str, str]) -> dict[str, Any]:
    """Variables with others' names; and who puts the server on a Hugging Face Space wants it seen."""
    found: dict[str, Any] = {field: environment[name] for name, field in OTHER_VARIABLES.items() if name in environment}
    if "SPACE_ID" in environment:
        # with a domain of one's own it is a list, and the provider knows the first
        host = environment.get("SPACE_HOST", "").split(",")[0].strip()
        found |= {"host": "0.0.0.0", "public": True, "space_host": host, "trusted_proxies": PRIVATE_NETWORKS}
    return found


def _from_file(path: Path, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(key="config", value=path, allowed="no such file 没有这个文件") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(key="config", value=path, allowed=f"TOML: {error}") from error


def _allowed(name: str) -> tuple[str, ...]:
    annotation = Settings.model_fields[name].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _explain(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return SettingsError(key=key, value=first["input"], allowed=", ".join(Settings.model_fields))
    return SettingsError(key=key, value=first["input"], allowed=", ".join(_allowed(key)) or first["msg"])
