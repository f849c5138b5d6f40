"""Detect repetition loops at the end of generated text: small models turn in circles until their tokens are used up."""

import re

TIMES = 3  # in a row, from which it is taken for a loop
LETTERS = 12  # of what is repeated, at least: lines of tables and short words are no loop
LONGEST = 300  # characters of what is repeated
END = re.compile(r"[.!?。！？\n]")


def loop_length(text: str, times: int = TIMES) -> int | None:
    """Characters of what the text ends in `times` times in a row; None while it does not."""
    for length in range(LETTERS, min(LONGEST, len(text) // times) + 1):
        said = text[-length:]
        if text.endswith(said * times) and sum(map(str.isalpha, said)) >= LETTERS:
            return length
    return None


def before_loop(text: str) -> str | None:
    """The text up to the end of a sentence that it would only say again; None while it is in no loop."""
    length = loop_length(text)
    if length is None:
        return None
    said = text[-length:]
    while text.endswith(said * 2):
        text = text[:-length]
    ends = [end.end() for end in END.finditer(text)]
    return text[: ends[-1] if ends else None].strip()
