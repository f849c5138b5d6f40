"""Parse the setting `engine`, such as `internlm=http://gpu1:23333/v1,http://gpu2:23333/v1#internlm3`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from app.errors import SettingsError

KEY_VARIABLE = "PUYU_ENGINE_KEY"
FORM = "NAME=http://HOST:PORT/v1[,http://HOST2:PORT/v1][#MODEL[#vision]] or NAME=vllm:MODEL[@ENVIRONMENT][#OPTIONS]"
KINDS = ("vllm", "lmdeploy", "sglang")
# Below the server's address: to load and to unload a LoRA adapter. LMDeploy reads its own at start only.
ADAPTER_ROUTES = {
    "vllm": ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
    "sglang": ("/load_lora_adapter", "/unload_lora_adapter"),
}
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class EngineLaunch:
    """An engine's own server to start here: `environment` is the Python environment it is installed in (empty: found
    on the path), `options` go to its command line."""

    kind: str
    model: str
    environment: str = ""
    options: tuple[str, ...] = ()

    @property
    def takes_adapters(self) -> bool:
        """Whether it can be given LoRA adapters while it runs."""
        return self.kind in ADAPTER_ROUTES and "--enable-lora" in self.options


@dataclass(frozen=True)
class EngineAddress:
    """Replicas under one name. An empty `model` means the first that they list; the key comes from the environment.

    `is_multimodal` is said by whoever runs the server: no engine tells whether its model takes pictures.
    """

    name: str
    urls: tuple[str, ...]
    model: str = ""
    key: str = field(default="", repr=False)
    is_multimodal: bool = False
    launch: EngineLaunch | None = None

    @property
    def key_variable(self) -> str:
        """The environment variable with this engine's key; without it KEY_VARIABLE holds for all engines."""
        return f"{KEY_VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', self.name.upper())}"


def read_engines(
    entries: Sequence[str], environment: Mapping[str, str], taken: Sequence[str] = ()
) -> dict[str, EngineAddress]:
    """The engines by name. Raises SettingsError for what is no address or has a name in `taken`."""
    engines: dict[str, EngineAddress] = {}
    for entry in entries:
        address = _read(entry)
        if address.name in engines or address.name in taken:
            raise SettingsError(key="engine", value=address.name, allowed="this name is taken 这个名称已被使用")
        key = environment.get(address.key_variable) or environment.get(KEY_VARIABLE, "")
        engines[address.name] = replace(address, key=key)
    return engines


def _read_launch(name: str, rest: str) -> EngineAddress | None:
    """`vllm:MODEL@/opt/vllm#--max-model-len=8192,--quantization=awq`; None for what is no launch."""
    kind, colon, rest = rest.partition(":")
    if not colon or kind not in KINDS:
        return None
    rest, _, options = rest.partition("#")
    model, _, environment = rest.partition("@")
    if not NAME.fullmatch(name) or not model or model.startswith("-"):
        raise SettingsError(key="engine", value=name, allowed=FORM)
    given = tuple(option for option in options.split(",") if option)
    return EngineAddress(name, (), launch=EngineLaunch(kind, model, environment, given))


def _read(entry: str) -> EngineAddress:
    name, equals, rest = entry.strip().partition("=")
    if (launched := _read_launch(name, rest)) is not None:
        return launched
    places, _, rest = rest.partition("#")
    model, _, mark = rest.partition("#")
    urls = tuple(url.strip().rstrip("/") for url in places.split(",") if url.strip())
    if not equals or not NAME.fullmatch(name) or not urls or mark not in ("", "vision", "sees"):
        raise SettingsError(key="engine", value=name, allowed=FORM)
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(key="engine", value=name, allowed=FORM)
        if parts.username or parts.password:
            wanted = f"the key belongs into {KEY_VARIABLE} 密钥请放进环境变量 {KEY_VARIABLE}"
            raise SettingsError(key="engine", value=name, allowed=wanted)
    return EngineAddress(name, urls, model, is_multimodal=bool(mark))
