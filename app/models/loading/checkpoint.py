"""Read a model folder as untrusted input: its config, its weights, whether they are complete."""

import json
import math
import pickle
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.errors import NotAModel
from app.models.engine.response_template import with_response

EMBEDDINGS = ("embed_tokens.weight", "tok_embeddings.weight", "lm_head.weight", "output.weight")
SCALED_FORMATS = ("float-quantized", "int-quantized", "naive-quantized")  # of compressed-tensors: each number alone
PACKED_PARTS = (".qweight", ".qzeros", ".scales", ".g_idx")  # of an AWQ or GPTQ weight
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LARGEST_HEADER = 100 * 2**20


class NoConfig(NotAModel):
    zh = "文件夹 {name} 里没有可读的 config.json。请选择含有 config.json 和权重文件的文件夹。"
    en = "The folder {name} has no readable config.json. Choose a folder with config.json and weight files."


class OnlyAnAdapter(NotAModel):
    zh = "文件夹 {name} 里只有 LoRA 适配器，不是完整的模型。请先选择它的基座模型，再加上这个适配器。"
    en = "The folder {name} holds a LoRA adapter, not a whole model. Choose its base model and add the adapter to it."


class NoWeights(NotAModel):
    zh = "文件夹 {name} 里没有权重文件（*.safetensors 或 pytorch_model*.bin）。请换一个文件夹。"
    en = "The folder {name} has no weight files (*.safetensors or pytorch_model*.bin). Choose another."


class BrokenWeights(NotAModel):
    zh = "模型 {name} 的权重文件 {file} 不完整或已损坏。请删除它并重新下载。"
    en = "The weight file {file} of the model {name} is incomplete or damaged. Delete it and download it again."


class UnsafeWeights(NotAModel):
    zh = "模型 {name} 的权重文件 {file} 里含有可执行代码，出于安全没有加载。请使用 safetensors 格式的权重。"
    en = "The weight file {file} of the model {name} contains code, so it was not loaded. Use safetensors weights."


@dataclass(frozen=True)
class Weight:
    """A tensor still on disk: `weight[...]` reads it."""

    read: Callable[[], Any]
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it, "BF16"

    def __getitem__(self, index: Any) -> Any:
        return self.read()[index]

    def get_dtype(self) -> str:
        return self.dtype

    def get_shape(self) -> list[int]:
        return list(self.shape)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The folder's config.json. `name` is what an error calls the model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if (folder / "adapter_config.json").exists():
            raise OnlyAnAdapter(name=name) from error
        raise NoConfig(name=name) from error
    if not isinstance(config, dict):
        raise NoConfig(name=name)
    return config


def written_template(folder: Path) -> str:
    """The chat template in a checkpoint's files, read without its tokenizer; empty where there is none."""
    told = None
    with suppress(OSError, ValueError, AttributeError):
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("response_template")
    return with_response(_chat_template(folder), told)


def _chat_template(folder: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for file in ("chat_template.json", "tokenizer_config.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads((folder / file).read_text(encoding="utf-8"))["chat_template"]
            several = {one["name"]: one["template"] for one in told} if isinstance(told, list) else {"default": told}
            return str(several.get("default") or "")
    return ""


def quantisation(config: dict[str, Any]) -> dict[str, Any]:
    """What a config says of packed weights; empty where they are ordinary."""
    about = config.get("quantization_config")
    return about if isinstance(about, dict) else {}


def is_unpacked(config: dict[str, Any]) -> bool:
    """Whether its weights are packed and unpacked while they are read: AWQ and GPTQ where their own library is not
    there, FP8 and INT8."""
    about = quantisation(config)
    if about.get("quant_method") in ("awq", "gptq"):
        return find_spec("gptqmodel") is None
    return is_scaled(about)


def is_scaled(about: dict[str, Any]) -> bool:
    """Whether a quantization_config means numbers of 8 bits with scales, and no zero points."""
    if about.get("quant_method") != "compressed-tensors":
        return about.get("quant_method") == "fp8"
    groups = about.get("config_groups")
    if about.get("format") not in SCALED_FORMATS or not isinstance(groups, dict) or find_spec("compressed_tensors"):
        return False
    weights = [group.get("weights") or {} for group in groups.values()]
    return all(one.get("num_bits") == 8 and one.get("symmetric", True) for one in weights)


def weight_files(folder: Path, name: str) -> list[Path]:
    """The folder's weight files, safetensors before pickles, each seen to exist."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        if index.exists():
            return _indexed_files(index, name)
        if (folder / f"{stem}.{suffix}").exists():
            return [folder / f"{stem}.{suffix}"]
    raise NoWeights(name=name)


def count_parameters(folder: Path, name: str) -> tuple[int, int]:
    """Parameters in all and those of the embeddings, from the files' headers; pickles of the old layout, which
    would have to be read whole, are estimated by their size. Weights of AWQ and GPTQ count as what they unpack to."""
    total = embedding = 0
    in_each = _packed_numbers(folder)
    for file in weight_files(folder, name):
        if file.suffix == ".safetensors":
            shapes = {key: entry["shape"] for key, entry in read_header(file, name).items()}
        elif zipfile.is_zipfile(file):
            shapes = {key: weight.shape for key, weight in _open_pickle(file, name)}
        else:
            total += file.stat().st_size // 2
            continue
        for key, shape in shapes.items():
            if key.endswith(PACKED_PARTS[1:]):
                continue
            count = math.prod(shape) * (in_each if key.endswith(PACKED_PARTS[0]) else 1)
            total += count
            embedding += count if key.endswith(EMBEDDINGS) else 0
    return total, embedding


def _packed_numbers(folder: Path) -> int:
    """How many numbers an int32 of a packed weight holds."""
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
        return 32 // int(about.get("bits") or about.get("w_bit") or 4)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return 8


def read_header(file: Path, name: str) -> dict[str, Any]:
    """A safetensors file's table of tensors. Raises BrokenWeights unless the file is as long as its table says."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = struct.unpack("<Q", stream.read(8))[0]
            if length > min(size, _LARGEST_HEADER):
                raise BrokenWeights(name=name, file=file.name)
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BrokenWeights(name=name, file=file.name) from error
    if 8 + length + end != size:
        raise BrokenWeights(name=name, file=file.name)
    return header


def open_weights(folder: Path, name: str, on_progress: Callable[[float, str], None]) -> dict[str, Weight]:
    """Every tensor of the folder by its name, read only when asked for; `on_progress` counts what has been read."""
    files = weight_files(folder, name)
    found: dict[str, Weight] = {}
    for file in files:
        opened = _open_safetensors(file, name) if file.suffix == ".safetensors" else _open_pickle(file, name)
        found.update(opened)
    return _counted(found, on_progress)


def _indexed_files(index: Path, name: str) -> list[Path]:
    try:
        listed = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / Path(entry).name for entry in listed]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenWeights(name=name, file=index.name) from error
    for file in files:
        if not file.exists():
            raise BrokenWeights(name=name, file=file.name)
    return files


def _open_safetensors(file: Path, name: str) -> Iterator[tuple[str, Weight]]:
    from safetensors import safe_open

    header = read_header(file, name)
    opened = safe_open(file, framework="pt", device="cpu")
    for key, entry in header.items():
        yield key, Weight(partial(opened.get_tensor, key), tuple(entry["shape"]), entry["dtype"])


def _open_pickle(file: Path, name: str) -> Iterator[tuple[str, Weight]]:
    import torch

    try:
        # Mapping needs the zip layout; the older one is read whole.
        mapped = zipfile.is_zipfile(file)
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        unsafe = "Unsupported" in str(error)
        raise (UnsafeWeights if unsafe else BrokenWeights)(name=name, file=file.name) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BrokenWeights(name=name, file=file.name) from error
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    content = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise BrokenWeights(name=name, file=file.name)
    for key, tensor in content.items():
        yield key, Weight(partial(tensor.view, tensor.shape), tuple(tensor.shape), names.get(tensor.dtype, "I64"))


def _counted(weights: dict[str, Weight], on_progress: Callable[[float, str], None]) -> dict[str, Weight]:
    sizes = {key: math.prod(w.shape) * _DTYPE_BYTES.get(w.dtype, 1) for key, w in weights.items()}
    total = max(sum(sizes.values()), 1)
    seen: set[str] = set()
    lock = threading.Lock()
    done = 0

    def read(key: str, weight: Weight) -> Any:
        nonlocal done
        tensor = weight.read()
        with lock:
            if key not in seen:
                seen.add(key)
                done += sizes[key]
                on_progress(done / total, f"{done // 2**20} / {total // 2**20} MiB")
        return tensor

    return {key: Weight(partial(read, key, weight), weight.shape, weight.dtype) for key, weight in weights.items()}
