"""Constrained decoding: token masks that keep an answer to a JSON schema or to tool calls (llguidance).

An answer is compiled to a grammar once; before each draw the tokens that cannot follow are masked.
"""

import json
import re
import threading
from collections.abc import Sequence
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
        if len(wanted.schema) > LARGEST_SCHEMA:
            raise SchemaTooLong(characters=len(wanted.schema), limit=LARGEST_SCHEMA)
        with self._lock:
            if self._tables is None:
                self._tables = from_tokenizer(self._tokenizer, eos_token=self._stop_token_ids)  # type: ignore[arg-type]
        matcher = LLMatcher(self._tables, self._grammar(wanted), log_level=0)
        if matcher.is_error():
            raise WrongSchema(reason=_first_sentence(matcher.get_error()))
        return TokenConstraint(matcher)

    def _grammar(self, wanted: OutputFormat) -> str:
        try:
            schema = json.loads(wanted.schema)
        except ValueError as error:
            raise WrongSchema(reason=str(error)) from error
        if not wanted.begin and wanted.required:
            return str(LLMatcher.grammar_from_json_schema(schema, overrides=COMPACT))
        embedded = json.dumps({**schema, "x-guidance": COMPACT} if isinstance(schema, dict) else schema)
        if not wanted.begin:
            return f"%llguidance {{}}\nstart: (%json {embedded}) | TEXT\nTEXT: /([^{{](.|\\n)*)?/\n"
        begin, end = self._literal(wanted.begin), self._literal(wanted.end)
        call = f"{begin} %json {embedded} {end}"
        several = "+" if wanted.repeat else ""
        if wanted.required:
            return f"%llguidance {{}}\nstart: call{several}\ncall: {call}\n"
        free = "*" if wanted.repeat else "?"
        if begin.startswith("<["):  # a special token is no text, so it cannot be mistaken for some
            rules = f"call: TEXT {begin} %json {embedded} {end}"
        else:
            rules = f"opening[lazy]: TEXT {begin}\ncall: opening %json {embedded} {end}"
        return f"%llguidance {{}}\nstart: call{free} TEXT\n{rules}\nTEXT: /(.|\\n)*/\n"

    def _literal(self, text: str) -> str:
        """Lark for a text in which special tokens count as one."""
        added = self._tokenizer.added_tokens_decoder
        special = {str(token): number for number, token in added.items() if token.special}
        if not text or not special:
            return json.dumps(text) if text else ""
        marks = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
        parts = [part for part in re.split(f"({marks})", text) if part]
        return " ".join(f"<[{special[part]}]>" if part in special else json.dumps(part) for part in parts)


class TokenConstraint:
    """What may follow in one answer. Used on the engine's thread only."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._read = 0

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


def _first_sentence(reason: str) -> str:
    return reason.strip().splitlines()[0][:300]
