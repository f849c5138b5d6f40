"""Check training data against a base's tokenizer and chat template: lengths, cuts, duplicates, the rows as trained."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from app.errors import BadInput
from app.finetune.data import BadData, Conversation, Problem
from app.finetune.encoding import IGNORED, Encoded, encode
from app.finetune.options import LEAST_HELD_OUT, MOST_HELD_OUT, TrainOptions
from app.models.catalog import known_models
from app.models.loading.checkpoint import read_config
from app.models.loading.loader import tokenizer_of

SHOWN_ROWS = 3
SHOWN_TOKENS = 400  # of a row
WHOLE = 10**9
FEW_DIFFERENT, MANY_ROWS = 5, 50  # so few rows, so often repeated, are learnt in a few steps


class AnswersBeyondLength(BadInput):
    zh = "{rows} 行的回答都在前 {limit} 个 token 之外。请把“每行最多 token 数”调到 {needed} 以上，或缩短问题。"
    en = (
        "In all {rows} rows the answer lies beyond the first {limit} tokens, so there is nothing to learn."
        " Set “Most tokens a row” to at least {needed}, or shorten the questions."
    )


class NothingLearnt(BadInput):
    zh = "没有可学的回答：{rows} 行的回答都标为不学习（weight 为 0，或 output_with_loss 为 false）。"
    en = "No answer is to be learnt: in all {rows} rows it has weight 0, or output_with_loss is false."


class ContextTooShort(BadInput):
    zh = "最长的一行有 {longest} 个 token，基座 {base} 只能容纳 {limit} 个。请把“每行最多 token 数”设为不超过 {limit}。"
    en = (
        "The longest row has {longest} tokens and the base {base} has room for {limit}."
        " Set “Most tokens a row” to at most {limit}."
    )


@dataclass(frozen=True)
class ShownRow:
    """A row as the model reads it: pieces of text, each with whether it is learnt. `more` tokens are left out here."""

    pieces: tuple[tuple[str, bool], ...]
    more: int


@dataclass(frozen=True)
class Preview:
    """What a data set looks like to the base: tokens of each row, apart where its answers are learnt apart, and the
    first rows."""

    rows: int
    tokens: tuple[int, ...]
    cut: int  # rows longer than the length, which lose their end
    lost: int  # rows without an answer to learn within the length, which are left out
    different: int
    held_out: tuple[int, ...]  # rows for validation, counted from 0
    trained: int  # what is learnt from: a row, or each of its answers that is learnt apart
    shown: tuple[ShownRow, ...]

    @property
    def is_repetition(self) -> bool:
        """Whether it is a few rows over and over, as in the course's exercise."""
        return self.different <= FEW_DIFFERENT and self.rows >= MANY_ROWS


def check(
    tokenizer: Any, base: str, context: int | None, conversations: Sequence[Conversation], options: TrainOptions
) -> Preview:
    """Whatever passes here can be trained. `context` is what the base has room for, None where it has no limit.

    Raises BadData for what the template refuses, NothingLearnt, AnswersBeyondLength, ContextTooShort.
    """
    encoded: dict[str, list[Encoded]] = {}
    problems: list[Problem] = []
    rows: list[list[Encoded]] = []
    keys = [json.dumps(conversation, sort_keys=True) for conversation in conversations]
    for number, (key, conversation) in enumerate(zip(keys, conversations, strict=True), 1):
        if key not in encoded:
            found = _encode(tokenizer, number, conversation)
            if isinstance(found, Problem):
                problems.append(found)
                continue
            encoded[key] = found
        rows.append(encoded[key])
    if problems:
        raise BadData(problems)
    max_length = options.max_length
    starts = [[_start(part) for part in row] for row in rows]
    first = [min(row) for row in starts]
    lost = sum(start >= max_length for start in first)
    if min(first) == WHOLE:
        raise NothingLearnt(rows=len(rows))
    if lost == len(rows):
        raise AnswersBeyondLength(rows=len(rows), limit=max_length, needed=min(first) + 1)
    lengths = tuple(len(part.input_ids) for row in rows for part in row)
    longest = min(max_length, max(lengths))
    if context is not None and longest > context:
        raise ContextTooShort(longest=longest, base=base, limit=context)
    held_out = _held_out([key if start < max_length else "" for key, start in zip(keys, first, strict=True)], options)
    apart = set(held_out)
    return Preview(
        rows=len(rows),
        tokens=lengths,
        cut=sum(any(len(part.input_ids) > max_length for part in row) for row in rows),
        lost=lost,
        different=len(encoded),
        held_out=held_out,
        trained=sum(start < max_length for at, row in enumerate(starts) if at not in apart for start in row),
        shown=tuple(
            _shown(tokenizer, part, max_length) for part in chain.from_iterable(islice(encoded.values(), SHOWN_ROWS))
        )[:SHOWN_ROWS],
    )


def _start(row: Encoded) -> int:
    """Where the first answer to learn begins, WHOLE where there is none."""
    return next((at for at, label in enumerate(row.labels) if label != IGNORED), WHOLE)


def check_for(folder: Path, base: str, conversations: Sequence[Conversation], options: TrainOptions) -> Preview:
    """The same for the base in `folder`."""
    return check(_tokenizer(folder, base), base, _context(folder, base), conversations, options)


def _held_out(keys: Sequence[str], options: TrainOptions) -> tuple[int, ...]:
    """Rows for validation, all repetitions of each with it; `keys` name equal rows alike, those left out with ""."""
    different = list(dict.fromkeys(key for key in keys if key))
    count = min(MOST_HELD_OUT, round(options.validation * len(different)))
    if count < LEAST_HELD_OUT:
        return ()
    chosen = set(random.Random(options.seed).sample(different, count))
    return tuple(number for number, key in enumerate(keys) if key in chosen)


def _encode(tokenizer: Any, number: int, conversation: Conversation) -> list[Encoded] | Problem:
    try:
        return encode(tokenizer, conversation, WHOLE)
    except TemplateError as error:
        return Problem(number, "基座的对话模板不接受这一行。", f"the base's chat template refuses it: {error}")


def _shown(tokenizer: Any, row: Encoded, max_length: int) -> ShownRow:
    pairs = list(zip(row.input_ids, row.labels, strict=True))[:max_length]
    pieces = groupby(pairs[:SHOWN_TOKENS], key=lambda pair: pair[1] != IGNORED)
    texts = tuple((tokenizer.decode([token for token, _ in group]), learnt) for learnt, group in pieces)
    return ShownRow(texts, max(0, len(pairs) - SHOWN_TOKENS))


@lru_cache(maxsize=4)
def _tokenizer(folder: Path, base: str) -> Any:
    return tokenizer_of(folder, known_models.card_of(base, folder))


def _context(folder: Path, base: str) -> int | None:
    """Tokens that the base was made for; where its file does not tell, nothing is held against it."""
    config = read_config(folder, base)
    limit = (config.get("text_config") or config).get("max_position_embeddings")
    return limit if isinstance(limit, int) else None
