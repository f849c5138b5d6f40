"""Tokenizer to GGUF: byte-level BPE and SentencePiece-like BPE, told by the tokenizer's own JSON."""

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from gguf import TokenType
from transformers import PreTrainedTokenizerBase

# The splits before BPE that llama.cpp knows, by the regular expression that the tokenizer names.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    _CONTRACTIONS + r"\p{N}" + _REST: "qwen2",
    _CONTRACTIONS + r"\p{N}{1,3}" + _REST: "llama-bpe",
}
_SPACE = "▁"


class UnknownTokenizer(Exception):
    """A kind of tokenizer that is not written to GGUF here."""


@dataclass(frozen=True)
class Vocabulary:
    """`model` is llama.cpp's name of the algorithm, `pre` of the split before it."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    space_prefix: bool = False


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """All `size` tokens that the model has embeddings for. Raises UnknownTokenizer."""
    backend: Any = tokenizer
    raw: dict[str, Any] = json.loads(backend.backend_tokenizer.to_str())
    model = raw["model"]
    if model.get("type") != "BPE":
        raise UnknownTokenizer(str(model.get("type")))
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(TokenType.UNUSED)] * size
    for token, number in model["vocab"].items():
        if number < size:
            tokens[number], kinds[number] = token, _kind(token, model)
    for added in raw["added_tokens"]:
        if added["id"] < size:
            kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
            tokens[added["id"]], kinds[added["id"]] = added["content"], int(kind)
    if model.get("byte_fallback"):
        return Vocabulary("llama", "default", tokens, kinds, _scores(tokens, merges), space_prefix=_has_prefix(raw))
    return Vocabulary("gpt2", _split(raw.get("pre_tokenizer")), tokens, kinds, merges=[" ".join(p) for p in merges])


def _kind(token: str, model: dict[str, Any]) -> int:
    if model.get("byte_fallback") and len(token) == 6 and token.startswith("<0x"):
        return int(TokenType.BYTE)
    return int(TokenType.UNKNOWN if token == model.get("unk_token") else TokenType.NORMAL)


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """llama.cpp joins the pair with the highest score first, so an earlier merge has a higher one."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in zip(count(1), merges, strict=False):
        ranks.setdefault(left + right, rank)
    return [-float(ranks.get(token, len(merges) + 1)) for token in tokens]


def _has_prefix(raw: dict[str, Any]) -> bool:
    """Whether a text gets a space in front."""
    steps = [*_steps(raw.get("normalizer"), "normalizers"), *_steps(raw.get("pre_tokenizer"), "pretokenizers")]
    return any(
        (step["type"] == "Prepend" and step.get("prepend") == _SPACE)
        or (step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def _split(pre_tokenizer: dict[str, Any] | None) -> str:
    steps = _steps(pre_tokenizer, "pretokenizers")
    kinds = [step["type"] for step in steps]
    last = steps[-1] if steps else {}
    if kinds[-1:] != ["ByteLevel"] or last.get("add_prefix_space"):
        raise UnknownTokenizer(" ".join(kinds) or "-")
    if kinds == ["ByteLevel"] and last.get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and last.get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
        pattern = str(steps[0]["pattern"].get("Regex"))
        if pattern in _SPLITS:
            return _SPLITS[pattern]
    raise UnknownTokenizer(" ".join(kinds))


def _steps(value: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    return list(value[inner]) if value["type"] == "Sequence" else [value]
