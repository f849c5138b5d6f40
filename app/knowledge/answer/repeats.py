"""Detect repetition loops in generated text and cut them off."""

import re

TIMES = 3  # in a row, from which it is taken for a circle
LETTERS = 12  # of what is repeated, at least: lines of tables and short words are no circle
LONGEST = 300  # characters of what is repeated
END = re.compile(r"[.!?。！？\n]")


def before_repeats(text: str) -> str | None:
    """The text up to the end of a sentence that it would only say again; None while it does not turn in a circle."""
    for length in range(LETTERS, min(LONGEST, len(text) // TIMES) + 1):
        said = text[-length:]
        if text.endswith(said * TIMES) and sum(map(str.isalpha, said)) >= LETTERS:
            while text.endswith(said * 2):
                text = text[:-length]
            ends = [end.end() for end in END.finditer(text)]
            return text[: ends[-1] if ends else None].strip()
    return None
