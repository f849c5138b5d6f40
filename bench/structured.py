"""Structured output: how many answers parse and match their JSON schema, and what the token mask costs a step.

python -m bench.structured [--each 20] [--users 8] [--tokens 64] [--parts answers cost]
"""

import argparse
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jsonschema

from app.models.engine.engine import Engine, EngineOptions
from app.models.interface import ChatModel, Message, OutputFormat, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.measure import DATA, line, machine, packaged_model

NAME = "smollm2-135m"
PARTS = ("answers", "cost")


def record(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def whole(low: int, high: int, kind: str | list[str] = "integer") -> dict[str, Any]:
    return {"type": kind, "minimum": low, "maximum": high}


def text(most: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": most}


CHINESE = {"type": "string", "pattern": "^[一-龥，。]{4,12}$"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "a person": record(name=text(20), age=whole(0, 120)),
    "Chinese strings": record(城市={"enum": ["北京", "上海", "乌鲁木齐"]}, 简介=CHINESE),
    "a list of objects": {
        "type": "array",
        "items": {"$ref": "#/$defs/Item"},
        "minItems": 1,
        "maxItems": 3,
        "$defs": {"Item": record(what={"enum": ["苹果", "tea", '纸 "A4"']}, price=whole(0, 99, "number"))},
    },
    "either of two": {
        "anyOf": [record(error=text(12)), record(ok={"const": True}, at={"type": "string", "format": "date"})]
    },
    "nested, with null": record(
        place=record(x=whole(-9, 9), y=whole(0, 9, ["integer", "null"])),
        tags={"type": "array", "items": text(6), "maxItems": 2},
    ),
}
LONG = OutputFormat(json.dumps({"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 500}))
ASK: list[Message] = [{"role": "user", "content": "Invent one and answer with JSON. 用 JSON 回答。"}]


def matches(model: ChatModel, schema: dict[str, Any], seed: int) -> bool:
    """Whether one answer, drawn at temperature 1, is JSON of the schema."""
    output = OutputFormat(json.dumps(schema, ensure_ascii=False))
    drawn = Sampling(temperature=1, top_p=1, max_new_tokens=400, seed=seed, output=output)
    text = "".join(model.stream(ASK, drawn))
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError) as error:
        print(f"  not so: {text!r}: {str(error).splitlines()[0]}")
        return False
    return True


def answers(each: int, users: int) -> None:
    """By the full weights in the batch, and by llama.cpp, so many at once."""
    for engine in ("weights", "GGUF"):
        placement = Placement("cpu", "auto", None, 4000, DATA, prefers_gguf=engine == "GGUF")
        registry = ModelRegistry(placement, NAME)
        with registry.lease(NAME) as model, ThreadPoolExecutor(users) as pool:
            good = {
                title: sum(pool.map(partial(matches, model, schema), range(each))) for title, schema in SCHEMAS.items()
            }
        registry.close()
        line(engine=engine, asked=each * len(SCHEMAS), parse_and_match=sum(good.values()), by_schema=good)


def cpu_seconds(engine: Engine, users: int, tokens: int, output: OutputFormat | None) -> float:
    """Processor time of one round, all users at once."""
    drawn = Sampling(temperature=1, top_p=1, max_new_tokens=tokens, seed=1, ignore_eos=True, output=output)
    began = time.process_time()
    streams = [engine.stream(ASK, drawn) for _ in range(users)]
    readers = [threading.Thread(target=lambda stream=stream: list(stream)) for stream in streams]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    if (made := sum(stream.completion_tokens for stream in streams)) != users * tokens:
        raise SystemExit(f"an answer ended early: {made} tokens")
    return time.process_time() - began


def cost(users: int, tokens: int, rounds: int = 5) -> None:
    """Rounds with and without a mask in turn, so that both meet the same load of the machine."""
    engine = Engine(NAME, packaged_model(), EngineOptions())
    for output in (None, LONG):
        cpu_seconds(engine, users, 8, output)
    pairs = [
        (cpu_seconds(engine, users, tokens, None), cpu_seconds(engine, users, tokens, LONG)) for _ in range(rounds)
    ]
    engine.close()
    plain, masked = (statistics.median(times) / tokens * 1000 for times in zip(*pairs, strict=True))
    ratio = statistics.median(masked / plain for plain, masked in pairs)
    line(users=users, tokens=tokens, cpu_ms_a_step=plain, with_masks=masked, ratio=ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=20, help="answers for each schema")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    line(**machine())
    if "answers" in given.parts:
        answers(given.each, given.users)
    if "cost" in given.parts:
        cost(given.users, given.tokens)


if __name__ == "__main__":
    main()
