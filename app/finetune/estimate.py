"""Estimate memory, disk and time of a training from the base model's files, before it starts."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import BadInput
from app.finetune.options import LEAST_HELD_OUT, MOST_HELD_OUT, TrainOptions
from app.models.loading.checkpoint import EMBEDDINGS, open_weights, read_config

MIB = 2**20
PROCESS_MIB = 700  # interpreter and libraries of the training process
# Forward, backward to the inputs and the adapter's own share, in operations per parameter and token.
OPERATIONS = 5.0
FORWARD_SHARE = 0.35  # of a row's training
SPEED_CPU = 6e10
SPEED_CUDA = 4e13
START_SECONDS = {False: 14.0, True: 40.0}
SAMPLE_SECONDS = {False: 3.0, True: 6.0}


class DiskTooFull(BadInput):
    zh = "磁盘空间不够：约需 {needed_mib} MiB，只剩 {free_mib} MiB。请清理旧的训练，或减少保存次数。"
    en = "The disk is too full: {needed_mib} MiB are needed, {free_mib} MiB are free. Delete old runs or save less."


@dataclass(frozen=True)
class Estimate:
    """Memory of the training process, disk for its checkpoints, time for the whole run."""

    memory_mib: int
    disk_mib: int
    seconds: float


@dataclass(frozen=True)
class BaseSize:
    """`linear` holds (inputs, outputs) of every layer that LoRA reaches."""

    parameters: int
    linear: tuple[tuple[int, int], ...]
    hidden: int
    layers: int
    vocabulary: int


def measure_base(folder: Path, name: str) -> BaseSize:
    """From the heads of the weight files, safetensors or .bin; tensors are not read. `name` is for errors."""
    linear: list[tuple[int, int]] = []
    parameters = 0
    for key, weight in open_weights(folder, name, lambda *_: None).items():
        parameters += math.prod(weight.shape)
        if len(weight.shape) == 2 and not key.endswith(EMBEDDINGS):
            linear.append((weight.shape[1], weight.shape[0]))
    config = read_config(folder, name)
    config = config.get("text_config") or config
    sizes = (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"])
    return BaseSize(parameters, tuple(linear), *sizes)


def estimate(
    base: BaseSize, options: TrainOptions, steps: int, lengths: Sequence[int], cuda: bool, pace: float | None = None
) -> Estimate:
    """`lengths` are the rows' tokens; `pace` seconds a step as seen in an earlier run of this kind."""
    width = min(options.max_length, sorted(lengths)[-1 - len(lengths) // 10]) if lengths else options.max_length
    trained = sum(options.rank * (inputs + outputs) for inputs, outputs in base.linear)
    weight_bytes = 0.6 if options.method == "qlora" else (2.0 if cuda else 4.0)
    kept = base.layers * base.hidden * (2 if cuda else 70)  # activations a token, with or without recomputing
    tokens = options.batch * width
    memory = base.parameters * weight_bytes + trained * 16 + tokens * (kept * 4 + base.vocabulary * 12)
    saves = math.ceil(steps / options.save_every)
    if pace is None:
        speed = SPEED_CUDA if cuda else SPEED_CPU
        pace = base.parameters * OPERATIONS * tokens * options.accumulation / speed
    held_out = min(MOST_HELD_OUT, options.validation * len(lengths))
    validations = saves if held_out >= LEAST_HELD_OUT else 0
    validation_pace = held_out * pace / (options.batch * options.accumulation) * FORWARD_SHARE
    samples = 1 + math.ceil(steps / options.evaluate_every)
    seconds = START_SECONDS[cuda] + steps * pace + samples * SAMPLE_SECONDS[cuda] + validations * validation_pace
    # a checkpoint keeps the adapter, the optimiser's two moments and, once more, the adapter alone
    return Estimate(round(memory / MIB) + PROCESS_MIB, round(saves * trained * 16 / MIB) + 16, seconds)


def require_disk(folder: Path, needed_mib: int) -> None:
    free = shutil.disk_usage(folder).free // MIB
    if free < needed_mib:
        raise DiskTooFull(needed_mib=needed_mib, free_mib=free)
