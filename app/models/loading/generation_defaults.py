"""Sampling defaults and end tokens from a checkpoint's generation_config.json; nothing else of it is taken over.

What else stands there (beams, several answers at once, stop strings) is a request's matter and would break streaming.
"""

import json
import math
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from app.models.interface import SamplingDefaults

WEAKEST = 1e-3  # a repetition penalty below it would make logits infinite


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The file's values; empty where there is none that can be read."""
    try:
        values = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def sampling_defaults(values: dict[str, Any]) -> SamplingDefaults:
    """What the checkpoint's makers sample with. Where they name a temperature, what they do not name is off."""
    usual = SamplingDefaults()
    if values.get("do_sample") is False:
        return SamplingDefaults(
            temperature=0.0, repetition_penalty=_number(values, "repetition_penalty", 1.0, above=WEAKEST)
        )
    top_p = 1.0 if "temperature" in values else usual.top_p
    return SamplingDefaults(
        temperature=_number(values, "temperature", usual.temperature),
        top_p=min(1.0, _number(values, "top_p", top_p, above=0)),
        top_k=int(_number(values, "top_k", usual.top_k)),
        min_p=min(1.0, _number(values, "min_p", usual.min_p)),
        repetition_penalty=_number(values, "repetition_penalty", usual.repetition_penalty, above=WEAKEST),
    )


def only_tokens(values: dict[str, Any]) -> GenerationConfig:
    """A generation config for transformers that names the special tokens and leaves all else to each request."""
    named: dict[str, Any] = {
        key: min(token_ids(values.get(key)), default=None) for key in ("bos_token_id", "pad_token_id")
    }
    return GenerationConfig(eos_token_id=sorted(token_ids(values.get("eos_token_id"))) or None, **named)


def token_ids(value: object) -> set[int]:
    """One id, a list of them, or none; whatever else stands there is none."""
    ids = value if isinstance(value, list | tuple) else [value]
    return {token for token in ids if isinstance(token, int) and not isinstance(token, bool) and token >= 0}


def _number(values: dict[str, Any], name: str, usual: float, above: float = -1) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return usual
    if value < 0 or value <= above:
        return usual
    return float(value)
