"""Repetition filter: sentences that say again what the text already said, and loops."""

import re
from dataclasses import dataclass, field

UNIT = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff_]+")
RUN = 5  # units in a row that are compared; a unit is a word or a Chinese character
ECHO = 0.5  # share of a sentence's runs that stood there before
CIRCLE = 0.6  # share of different runs of three, below which a sentence turns in a circle
LONG = 12
NEAR = 6  # sentences back in which a short one may not stand word for word


def units(text: str) -> list[str]:
    return [unit.lower() for unit in UNIT.findall(text)]


@dataclass
class Memory:
    """What a text has said so far. A short sentence is compared with the last `near` ones only."""

    near: int = NEAR
    _runs: set[tuple[str, ...]] = field(default_factory=set)
    _sentences: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        said = units(sentence)
        self._runs.update(runs(said, RUN))
        self._sentences.append(tuple(said))

    def repeats(self, sentence: str) -> bool:
        """Whether a sentence, whole or half written, says what was said or turns in a circle."""
        return circles(units(sentence)) or self.has(sentence)

    def has(self, sentence: str) -> bool:
        """Whether a sentence says what was said."""
        said = units(sentence)
        own = runs(said, RUN)
        if own:
            return sum(run in self._runs for run in own) / len(own) >= ECHO
        return bool(said) and tuple(said) in self._sentences[-self.near :]

    def may_repeat(self, beginning: str) -> bool:
        """Whether it is too early to say that a sentence being written is new."""
        return len(units(beginning)) < RUN or self.repeats(beginning)


def circles(said: list[str]) -> bool:
    """Whether the same few units come round and round."""
    triples = runs(said, 3)
    return len(triples) >= LONG and len(set(triples)) / len(triples) < CIRCLE


def runs(said: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(said[at : at + length]) for at in range(len(said) - length + 1)]
