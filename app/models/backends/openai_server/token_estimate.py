"""Estimate token counts of messages and text for servers that have no tokenizer route."""

import re
from collections.abc import Sequence

from app.models.interface import Message

# About what the usual vocabularies make of Chinese and of other text.
WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
TOKENS_PER_WIDE, TOKENS_PER_OTHER, TOKENS_PER_TURN = 0.75, 0.28, 5
TOKENS_PER_PICTURE = 1024  # between a few hundred and a few thousand, by engine and size


def estimate(messages: Sequence[Message]) -> int:
    """About how many tokens these messages make, without the model's tokenizer."""
    tokens = 0.0
    for turn in messages:
        tokens += _rough(turn["content"]) + TOKENS_PER_TURN
        tokens += TOKENS_PER_PICTURE * len(turn.get("images", ()))
    return round(tokens) + 1


def tokens_in(piece: str) -> int:
    """About how many tokens a piece of a stream has: one as a rule, but some servers send several together."""
    return max(1, round(_rough(piece))) if piece else 0


def _rough(text: str) -> float:
    wide = len(WIDE.findall(text))
    return wide * TOKENS_PER_WIDE + (len(text) - wide) * TOKENS_PER_OTHER
