"""Read GGUF metadata from the file's header, without trusting it.

The library `gguf` maps every token of the vocabulary to an object first, which takes seconds for a large one.
"""

import math
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import NotAModel
from app.models.interface import SamplingDefaults
from app.models.loading.generation_defaults import sampling_defaults

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_KEPT_LENGTH = 4096  # longer lists, such as the vocabulary, are passed over
_PART = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf)$", re.IGNORECASE)
EMBEDDING = "token_embd.weight"
SAMPLING_KEYS = {  # as generation_config.json calls them, and as the file does behind `general.sampling.`
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}


class BrokenGguf(NotAModel):
    zh = "文件 {name} 不是完整的 GGUF 模型。请重新下载。"
    en = "The file {name} is no whole GGUF model. Download it again."


class NotAChatModel(NotAModel):
    zh = "GGUF 文件 {name} 的结构是 {kind}，不是对话用的语言模型。请换一个文件。"
    en = "The GGUF file {name} is of the kind {kind}, not a language model to talk with. Choose another file."


@dataclass(frozen=True)
class GgufFacts:
    """`values` are the file's settings by name; sizes of all parts together. `vocabulary`: how many tokens it knows."""

    values: dict[str, Any]
    parameters: int
    embedding_parameters: int
    bytes: int
    vocabulary: int

    def of_kind(self, name: str, default: int = 0) -> Any:
        """A setting of the architecture, such as `context_length`."""
        return self.values.get(f"{self.values.get('general.architecture')}.{name}", default)

    @property
    def context_tokens(self) -> int:
        return int(self.of_kind("context_length"))

    @property
    def chat_template(self) -> str:
        """Empty for a model that was not taught to chat."""
        return str(self.values.get("tokenizer.chat_template") or "")

    @property
    def begin_of_text(self) -> int:
        """The token that stands between texts."""
        named = (self.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
        return next((token for token in named if isinstance(token, int) and token < self.vocabulary), 0)

    @property
    def sampling_defaults(self) -> SamplingDefaults:
        """What the file's makers sample with, as far as it says."""
        told = {name: self.values.get(f"general.sampling.{key}") for name, key in SAMPLING_KEYS.items()}
        return sampling_defaults({name: value for name, value in told.items() if value is not None})

    def cache_bytes_per_token(self, bytes_per_number: float) -> float:
        """Keys and values of all layers for one token."""
        layers, heads = int(self.of_kind("block_count")), self.of_kind("attention.head_count")
        key_heads = self.of_kind("attention.head_count_kv", heads)
        in_all = sum(key_heads) if isinstance(key_heads, list) else layers * int(key_heads)
        most_heads = max(heads) if isinstance(heads, list) else int(heads)
        usual = int(self.of_kind("embedding_length")) // max(most_heads, 1)
        width = int(self.of_kind("attention.key_length", usual)) + int(self.of_kind("attention.value_length", usual))
        return in_all * width * bytes_per_number


def part_names(file: str) -> list[str]:
    """The files that a model is split into, named by its first; one for a model that is whole."""
    found = _PART.search(file)
    if found is None:
        return [file]
    return [f"{file[: found.start()]}-{part:05}-of-{found[2]}{found[3]}" for part in range(1, int(found[2]) + 1)]


def read_facts(folder: Path, file: str, name: str) -> GgufFacts:
    """Raises BrokenGguf, or NotAChatModel for what is no language model. `name` is what an error calls the model."""
    try:
        heads = [(_read_head(folder / part), (folder / part).stat().st_size) for part in part_names(file)]
    except (OSError, ValueError, struct.error, KeyError, OverflowError) as error:
        raise BrokenGguf(name=name) from error
    values = heads[0][0][0]
    shapes = {key: shape for (_, own), _ in heads for key, shape in own.items()}
    kind = str(values.get("general.architecture", "?"))
    if values.get("general.type", "model") != "model" or "tokenizer.ggml.model" not in values or kind == "clip":
        raise NotAChatModel(name=name, kind=kind)
    embedding = sum(math.prod(shape) for key, shape in shapes.items() if key in (EMBEDDING, "output.weight"))
    parameters, size = sum(map(math.prod, shapes.values())), sum(size for _, size in heads)
    return GgufFacts(values, parameters, embedding, size, shapes.get(EMBEDDING, (0,))[-1])


def _read_head(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """(settings, shape of each tensor)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = _Reader(content)
        magic, version, tensors, count = reader.unpack("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("not GGUF of version 2 or 3")
        values: dict[str, Any] = {}
        for _ in range(reader.bounded(count)):
            key = reader.string()
            values[key] = reader.value(reader.unpack("I")[0])
        shapes: dict[str, tuple[int, ...]] = {}
        for _ in range(reader.bounded(tensors)):
            key = reader.string()
            shapes[key] = reader.unpack(f"{reader.bounded(reader.unpack('I')[0])}Q")
            reader.unpack("IQ")  # type and place
        return values, shapes


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0

    def bounded(self, count: int) -> int:
        """A number of things that the file can hold at all."""
        if count > len(self._content):
            raise ValueError("more than the file can hold")
        return count

    def unpack(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def string(self) -> str:
        length = self.bounded(self.unpack("Q")[0])
        start, self._at = self._at, self._at + length
        return self._content[start : self._at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.unpack(_SCALARS[kind])[0]
        inner, count = self.unpack("IQ")
        self.bounded(count)
        if inner in (_STRING, _ARRAY):
            return self._variable(inner, count)
        if count <= _KEPT_LENGTH:
            return list(self.unpack(f"{count}{_SCALARS[inner]}"))
        self._at += count * struct.calcsize(_SCALARS[inner])
        return None

    def _variable(self, inner: int, count: int) -> list[Any] | None:
        if count <= _KEPT_LENGTH:
            return [self.value(inner) for _ in range(count)]
        for _ in range(count):
            if inner == _ARRAY:
                self.value(inner)
            else:
                self._at += 8 + struct.unpack_from("<Q", self._content, self._at)[0]
        return None
