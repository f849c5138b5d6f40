"""Constrained decoding: token masks that keep an answer to a JSON schema or to tool calls (llguidance).

An answer is compiled to a grammar once; before each draw the tokens that cannot follow are masked.
"""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerBase

from app.errors import BadInput
from app.models.interface import OutputFormat

LARGEST_SCHEMA = 100_000  # characters
# A small model left to choose writes blanks without end.
COMPACT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class WrongSchema(BadInput):
    zh = "这个 JSON schema 无法使用（“{reason}”）。请修改后再试。"
    en = "This JSON schema cannot be used: {reason}. Change it and try again."


class SchemaTooLong(BadInput):
    zh = "JSON schema 有 {characters} 个字符，最多 {limit} 个。请缩短后再试。"
    en = "The JSON schema has {characters} characters; at most {limit} are accepted. Shorten it."


class GrammarCompiler:
    """Output formats to constraints for one tokenizer. Thread-safe; its own tables are built at first use."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._stop_token_ids = list(stop_token_ids)
        self._tables: LLTokenizer | None = None
        self._lock = threading.Lock()

    def constraint(self, wanted: OutputFormat) -> "TokenConstraint":
        """Raises WrongSchema, SchemaTooLong."""
        added = self._tokenizer.added_tokens_decoder
        grammar = grammar_of(wanted, {str(token): number for number, token in added.items() if token.special})
        with self._lock:
            if self._tables is None:
                self._tables = from_tokenizer(self._tokenizer, eos_token=self._stop_token_ids)  # type: ignore[arg-type]
        return TokenConstraint(LLMatcher(self._tables, grammar, log_level=0), self._stop_token_ids)


def grammar_of(wanted: OutputFormat, special: Mapping[str, int]) -> str:
    """Lark, as every build of llguidance reads it. `special` are tokens that are no text, with their numbers.

    Raises WrongSchema, SchemaTooLong.
    """
    if len(wanted.schema) > LARGEST_SCHEMA:
        raise SchemaTooLong(characters=len(wanted.schema), limit=LARGEST_SCHEMA)
    try:
        schema = json.loads(wanted.schema, object_hook=_with_known_pattern if wanted.lenient else None)
    except ValueError as error:
        raise WrongSchema(reason=str(error)) from error
    options = COMPACT | {"coerce_one_of": True, "lenient": wanted.lenient}
    embedded = json.dumps({**schema, "x-guidance": options} if isinstance(schema, dict) else schema)
    begin, end = _literal(wanted.begin, special), _literal(wanted.end, special)
    grammar = f"%llguidance {{}}\n{_rules(wanted, begin, f'%json {embedded} {end}')}\n"
    if fault := LLMatcher.validate_grammar(grammar):
        raise WrongSchema(reason=_reason(fault))
    return grammar


def _with_known_pattern(schema: dict[str, Any]) -> dict[str, Any]:
    """Without a pattern that looks ahead or the like: the one fault that llguidance does not pass over by itself."""
    pattern = schema.get("pattern")
    wanted = json.dumps({"type": "string", "pattern": pattern})
    if not isinstance(pattern, str) or not LLMatcher.validate_grammar(f"%llguidance {{}}\nstart: %json {wanted}\n"):
        return schema
    return {key: value for key, value in schema.items() if key != "pattern"}


def _rules(wanted: OutputFormat, begin: str, rest: str) -> str:
    if not begin:
        return f"start: {rest}" if wanted.required else f"start: ({rest}) | TEXT\nTEXT: /([^{{](.|\\n)*)?/"
    if wanted.required:
        return f"start: call{'+' if wanted.repeat else ''}\ncall: {begin} {rest}"
    if begin.startswith("<["):  # a special token is no text, so it cannot be mistaken for some
        rules = f"call: TEXT {begin} {rest}"
    else:
        rules = f"opening[lazy]: TEXT {begin}\ncall: opening {rest}"
    return f"start: call{'*' if wanted.repeat else '?'} TEXT\n{rules}\nTEXT: /(.|\\n)*/"


def _literal(text: str, special: Mapping[str, int]) -> str:
    """Lark for a text in which special tokens count as one."""
    if not text or not special:
        return json.dumps(text) if text else ""
    marks = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
    parts = [part for part in re.split(f"({marks})", text) if part]
    return " ".join(f"<[{special[part]}]>" if part in special else json.dumps(part) for part in parts)


class TokenConstraint:
    """What may follow in one answer. Used on the engine's thread only."""

    def __init__(self, matcher: LLMatcher, stop_token_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._stop_token_ids = list(stop_token_ids)
        self._read = 0

    def forbid_end(self, logits: torch.Tensor) -> None:
        """While the model reasons: an answer has to follow."""
        logits[self._stop_token_ids] = float("-inf")

    def apply(self, logits: torch.Tensor, answer: Sequence[int]) -> None:
        """Mask, in `logits` [vocabulary], what cannot follow the tokens of the answer so far."""
        for token in answer[self._read :]:
            if not self._matcher.is_stopped():
                self._matcher.consume_token(token)
        self._read = len(answer)
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = torch.zeros(logits.shape[-1], dtype=torch.bool)
        known = min(len(bits), logits.shape[-1])
        allowed[:known] = torch.from_numpy(bits[:known].astype(bool))
        if bool(allowed.any()):
            logits.masked_fill_(~allowed.to(logits.device), float("-inf"))


def _reason(fault: str) -> str:
    """Without the place in a grammar that nobody has written; what cannot be kept to is called as in the schema."""
    first, *further = fault.strip().splitlines()
    reason = re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", first)
    if error := next((line.removeprefix("error: ") for line in further if line.startswith("error: ")), ""):
        reason = f'no answer can be held to the "pattern" {further[0].strip()} ({error})'
    reason = re.sub(r"^Unimplemented keys: \[(.*)\]$", r"no answer can be held to \1", reason)
    return re.sub(r"^Unknown format: (.*)$", r'no answer can be held to the "format" \1', reason)[:300]
