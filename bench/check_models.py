"""Check every causal architecture of the installed transformers: does a tiny checkpoint answer as `generate` does?

    python -m bench.check_models [KIND …]

Each is loaded as a folder that somebody named, then asked alone, four at once, beside a long prompt, beyond its sliding
window and in a second turn; every answer is compared with transformers' own, token for token.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from app.errors import StudioError
from app.models.backends.hf_generate import GenerateEngine
from app.models.backends.local_engine import Verdicts, open_engine
from app.models.backends.multimodal import is_multimodal
from app.models.catalog import known_models
from app.models.engine.detokenizer import Detokenizer
from app.models.engine.engine import Engine, EngineOptions
from app.models.interface import Message, Sampling
from app.models.loading.loader import LoadedModel, load
from bench.tiny_checkpoints import WINDOW, causal_kinds, save_tiny

TOKENS = 12
GREEDY = Sampling(temperature=0, repetition_penalty=1, max_new_tokens=TOKENS, ignore_eos=True)
OPTIONS = EngineOptions(cache_tokens=2048, page_size=16, max_batched_tokens=64, max_running_requests=8)


@dataclass(frozen=True)
class Outcome:
    """`kind` of model, and `verdict`: batched, one at a time, refused, different, no text chat, or not built."""

    kind: str
    verdict: str
    detail: str = ""


def no_text_chat(kind: str) -> str:
    """Why an architecture is not asked here; empty for one that goes on with a text."""
    if kind not in OTHERS and is_multimodal(CONFIG_MAPPING[kind]()):
        return "sees pictures, by a processor of its own: tests/models/backends"
    return OTHERS.get(kind, "")


def turns(*contents: str) -> list[Message]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(contents)]  # type: ignore[typeddict-item]


OTHERS = {
    "blt": "patches of bytes, found by a second model of its own",
    "gemma4_assistant": "drafts tokens for another model",
    "gemma4_unified_assistant": "drafts tokens for another model",
    "moss_transcribe_diarize": "writes down speech",
    "musicgen": "makes music",
    "musicgen_melody": "makes music",
    "phi4_multimodal": "sees and hears, by a processor of its own",
    "prophetnet": "an encoder-decoder",
    "reformer": "hashes at random which tokens it reads",
    "xlnet": "predicts tokens in a random order",
}
ROUNDS: dict[str, list[list[Message]]] = {
    "alone": [turns("Hello there")],
    "four at once": [turns(text) for text in ("One", "Two, a bit longer", "Three 书", "Four " * 4)],
    "beside a long prompt": [turns("A long one. " * 22), turns("Short")],
    "beyond the window": [turns("x" * (2 * WINDOW))],
    "a second turn": [turns("Hello there", "Well.", "And now?")],
}


def check(kind: str, folder: Path, **more: Any) -> Outcome:
    """Build, load and ask one architecture."""
    if why := no_text_chat(kind):
        return Outcome(kind, "no text chat", why)
    try:
        save_tiny(kind, folder, **more)
        reference: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    except Exception as error:  # an architecture that cannot be made small like this
        return Outcome(kind, "not built", f"{type(error).__name__}: {error}".splitlines()[0][:90])
    try:
        loaded = load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
        engine = open_engine(kind, loaded, OPTIONS, Verdicts(folder / "proofs.json"), kind)
    except StudioError as error:
        return Outcome(kind, "refused", str(error).replace(str(folder), "…")[:90])
    try:
        wrong = list(_different(engine, reference, loaded))
    except Exception as error:  # an answer that failed
        wrong = [f"{type(error).__name__}: {error}"]
    finally:
        engine.close()
    if wrong:
        return Outcome(kind, "different", ", ".join(wrong)[:90])
    return Outcome(kind, "one at a time" if isinstance(engine, GenerateEngine) else "batched")


def _different(engine: Engine | GenerateEngine, reference: Any, loaded: LoadedModel) -> Iterator[str]:
    for name, conversations in ROUNDS.items():
        generations = [engine.stream(messages, GREEDY) for messages in conversations]
        answers = ["".join(generation) for generation in generations]
        if answers != [expected(reference, loaded, messages) for messages in conversations]:
            yield name


def expected(reference: Any, loaded: LoadedModel, messages: list[Message]) -> str:
    """What transformers' own `generate` answers."""
    tokenizer: Any = loaded.tokenizer
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    tokens = torch.tensor([prompt])
    with torch.inference_mode():
        made = reference.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    reader = Detokenizer(tokenizer)
    return "".join(reader.push(token) for token in made[0, len(prompt) :].tolist())


def main() -> int:
    transformers.utils.logging.set_verbosity_error()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="model types; all of the installed transformers by default")
    outcomes = []
    for kind in parser.parse_args().kinds or causal_kinds():
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(check(kind, Path(folder)))
        print(f"| {outcomes[-1].kind} | {outcomes[-1].verdict} | {outcomes[-1].detail} |", flush=True)
    counts = Counter(outcome.verdict for outcome in outcomes)
    built = len(outcomes) - counts["not built"] - counts["no text chat"]
    right = built - counts["different"]
    print(json.dumps({"bench": "check_models", **counts, "ratio": round(right / max(built, 1), 3), "of": "built"}))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
