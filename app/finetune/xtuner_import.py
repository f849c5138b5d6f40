"""Read a user's own XTuner configuration without running it: values of assignments only, by the syntax tree."""

import ast
import math
from dataclasses import dataclass
from typing import Any

from app.errors import BadInput
from app.finetune.data_files import decode
from app.finetune.options import TrainOptions

MOST_BYTES = 2**20


class BadConfig(BadInput):
    zh = "这不是可读的 XTuner 配置文件（Python 赋值语句）。"
    en = "This is no readable XTuner configuration: a Python file of assignments is wanted."


@dataclass(frozen=True)
class ImportedConfig:
    """What was understood; `base` and `data` as they are written there, empty where they are not plain text."""

    options: dict[str, Any]
    base: str
    data: str
    questions: tuple[str, ...]
    system: str


class _Unknown:
    """A value that only running the file would give."""


UNKNOWN = _Unknown()


def read_config(content: bytes) -> ImportedConfig:
    """Raises BadConfig, UnknownEncoding, or BadOption for a number that is not allowed here."""
    if len(content) > MOST_BYTES:
        raise BadConfig
    try:
        tree = ast.parse(decode(content))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadConfig from error
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            value = _value(node.value, names)
            names |= {target.id: value for target in node.targets if isinstance(target, ast.Name)}
    if "model" not in names and "pretrained_model_name_or_path" not in names:
        raise BadConfig
    options = _options(names)
    TrainOptions.read(options)
    model = _dict(names.get("model"))
    base = names.get("pretrained_model_name_or_path", _dict(model.get("llm")).get("pretrained_model_name_or_path"))
    return ImportedConfig(
        options=options,
        base=base if isinstance(base, str) else "",
        data=_text(names.get("data_path")) or _text(names.get("data_files")),
        questions=_texts(names.get("evaluation_inputs")),
        system=_text(names.get("SYSTEM")),
    )


def _options(names: dict[str, Any]) -> dict[str, Any]:
    """The settings that have a counterpart here. XTuner counts saves in iterations, here they count in updates."""
    model, loader, wrapper = (_dict(names.get(key)) for key in ("model", "train_dataloader", "optim_wrapper"))
    lora, train = _dict(model.get("lora")), _dict(names.get("train_cfg"))
    accumulation = names.get("accumulative_counts", wrapper.get("accumulative_counts", 1))
    saving = _dict(_dict(names.get("default_hooks")).get("checkpoint"))
    found = {
        "method": "qlora" if _dict(model.get("llm")).get("quantization_config") else "lora",
        "learning_rate": names.get("lr", _dict(wrapper.get("optimizer")).get("lr")),
        "rank": lora.get("r"),
        "alpha": lora.get("lora_alpha"),
        "dropout": lora.get("lora_dropout"),
        "batch": names.get("batch_size", loader.get("batch_size")),
        "accumulation": accumulation,
        "max_length": names.get("max_length"),
        "epochs": names.get("max_epochs", train.get("max_epochs")),
        "steps": _updates(names.get("max_iters", train.get("max_iters")), accumulation),
        "save_every": _updates(names.get("save_steps", saving.get("interval")), accumulation),
        "evaluate_every": _updates(names.get("evaluation_freq"), accumulation),
        "seed": _dict(names.get("randomness")).get("seed"),
    }
    return {key: value for key, value in found.items() if isinstance(value, str) or _is_number(value)}


def _updates(iterations: Any, accumulation: Any) -> int | None:
    if not _is_number(iterations) or not _is_number(accumulation) or accumulation <= 0:
        return None
    return max(1, math.ceil(iterations / accumulation))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """Literals, names that were given one before, and `dict(...)` as a table of its keywords."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [_value(entry, names) for entry in entries]
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {keyword.arg: _value(keyword.value, names) for keyword in keywords if keyword.arg}
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {key.value: _value(value, names) for key, value in pairs if isinstance(key, ast.Constant)}
    return UNKNOWN


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]
    return tuple(entry for entry in entries if isinstance(entry, str))
