"""Read a user's own XTuner configuration without running it: values of assignments only, by the syntax tree."""

import ast
import math
import operator
from collections.abc import Callable
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
    """What was understood; `base` and `data` as they are written there, empty where they are not plain text.

    `unread` are the settings whose values only running the file would give.
    """

    options: dict[str, Any]
    base: str
    data: str
    questions: tuple[str, ...]
    system: str
    unread: tuple[str, ...] = ()


class _Unknown:
    """A value that only running the file would give."""


UNKNOWN = _Unknown()
_LONGEST = 4096  # of a text that is put together
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def read_config(content: bytes) -> ImportedConfig:
    """Raises BadConfig, UnknownEncoding, or BadOption for a number that is not allowed here."""
    if len(content) > MOST_BYTES:
        raise BadConfig
    try:
        names = _assigned(ast.parse(decode(content)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadConfig from error
    if "model" not in names and "pretrained_model_name_or_path" not in names:
        raise BadConfig
    found = _options(names)
    options = {key: value for key, value in found.items() if isinstance(value, str) or _is_number(value)}
    TrainOptions.read(options)
    model = _dict(names.get("model"))
    base = names.get("pretrained_model_name_or_path", _dict(model.get("llm")).get("pretrained_model_name_or_path"))
    return ImportedConfig(
        options=options,
        base=base if isinstance(base, str) else "",
        data=_data(names),
        questions=_texts(names.get("evaluation_inputs")),
        system=_text(names.get("SYSTEM")),
        unread=tuple(key for key, value in found.items() if value is UNKNOWN),
    )


def _assigned(tree: ast.Module) -> dict[str, Any]:
    """What the file's own names stand for at its end."""
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            value = _value(node.value, names)
            names |= {target.id: value for target in node.targets if isinstance(target, ast.Name)}
    return names


def _options(names: dict[str, Any]) -> dict[str, Any]:
    """The settings that have a counterpart here. XTuner counts saves in iterations, here they count in updates."""
    model, loader, wrapper = (_dict(names.get(key)) for key in ("model", "train_dataloader", "optim_wrapper"))
    lora, train = _dict(model.get("lora")), _dict(names.get("train_cfg"))
    accumulation = names.get("accumulative_counts", wrapper.get("accumulative_counts", 1))
    saving = _dict(_dict(names.get("default_hooks")).get("checkpoint"))
    return {
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


def _data(names: dict[str, Any]) -> str:
    """What the data set itself is loaded from, else the first name of data; XTuner's own files have several of them."""
    of_set = _dict(_dict(_dict(names.get("train_dataset")).get("dataset")).get("data_files"))
    named = [value for name, value in names.items() if name.endswith("_path") and not name.endswith("name_or_path")]
    for value in (of_set.get("train"), names.get("data_path"), names.get("data_files"), *named):
        if texts := _texts(_dict(value).get("train") or value):
            return texts[0]
    return ""


def _updates(iterations: Any, accumulation: Any) -> Any:
    if UNKNOWN in (iterations, accumulation):
        return UNKNOWN
    if not _is_number(iterations) or not _is_number(accumulation) or accumulation <= 0:
        return None
    return max(1, math.ceil(iterations / accumulation))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """Literals, names that were given one before, sums of both, and `dict(...)` as a table of its keywords."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.BinOp(left=left, op=sign, right=right):
            return _sum(type(sign), _value(left, names), _value(right, names))
        case ast.JoinedStr(values=parts):
            texts = [_value(part, names) for part in parts]
            return "".join(map(str, texts))[:_LONGEST] if UNKNOWN not in texts else UNKNOWN
        case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
            return _value(inner, names)
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [_value(entry, names) for entry in entries]
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {keyword.arg: _value(keyword.value, names) for keyword in keywords if keyword.arg}
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {key.value: _value(value, names) for key, value in pairs if isinstance(key, ast.Constant)}
    return UNKNOWN


def _sum(sign: type[ast.operator], left: Any, right: Any) -> Any:
    """Of numbers, or of two texts that are joined."""
    joined = sign is ast.Add and isinstance(left, str) and isinstance(right, str) and len(left + right) <= _LONGEST
    if sign in _ARITHMETIC and (joined or (_is_number(left) and _is_number(right))):
        try:
            return _ARITHMETIC[sign](left, right)
        except ArithmeticError:
            return UNKNOWN
    return UNKNOWN


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]
    return tuple(entry for entry in entries if isinstance(entry, str))
