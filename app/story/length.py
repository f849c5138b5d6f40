"""Text length and sentence splitting: Chinese counted in characters, English in words."""

import re
from dataclasses import dataclass, field

from app.errors import Language
from app.texts import has_chinese

TOLERANCE = 0.15
ENDINGS = ".!?。！？…"
CLOSERS = "\"'”’」』）)】》*"
SENTENCE = re.compile(
    rf"[。！？…]+[{CLOSERS}]*"  # Chinese: the mark alone ends it
    rf"|[.!?]+[{CLOSERS}]*(?=\s)"  # English: a space must follow, or it may be a number
    r"|\n+"
)
ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Jr|Sr|vs|No|etc|e\.g|i\.e)|\b[A-Z]|(?:^|\s)\d+)\.$")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
WHOLE = re.compile(rf"[{ENDINGS}][{CLOSERS}]*\s*$")


def count(text: str, language: Language) -> int:
    """Words of an English text; characters of a Chinese one, punctuation counted and white space not."""
    return len(WORD.findall(text)) if language == "en" else len("".join(text.split()))


def ends_whole(text: str) -> bool:
    """Whether the text ends where a sentence does."""
    return bool(WHOLE.search(text))


@dataclass(frozen=True)
class Target:
    """A wanted length and how far from it a text may end."""

    wanted: int
    language: Language

    @property
    def low(self) -> int:
        return round(self.wanted * (1 - TOLERANCE) + 0.49)

    @property
    def high(self) -> int:
        return int(self.wanted * (1 + TOLERANCE))

    def of(self, text: str) -> int:
        return count(text, self.language)

    def met(self, text: str) -> bool:
        """Whether the text ends on a whole sentence within the bounds."""
        return self.low <= self.of(text) <= self.high and ends_whole(text)


@dataclass
class SentenceReader:
    """Cuts a stream into sentences; each keeps the white space before it. `rest` is the one being written."""

    rest: str = ""
    _searched: int = field(default=0, repr=False)

    def push(self, piece: str) -> list[str]:
        """The sentences that this piece completes."""
        self.rest += piece
        found: list[str] = []
        while (end := self._end()) is not None:
            found.append(self.rest[:end])
            self.rest, self._searched = self.rest[end:], 0
        return [sentence for sentence in found if sentence.strip()]

    def close(self) -> str:
        """What is left when the writer stopped: the last sentence, with a mark where it had none."""
        left, self.rest = self.rest, ""
        return finished(left) if left.strip() else ""

    def _end(self) -> int | None:
        """Where the first sentence ends. Closing quotes may still follow, so the last character waits."""
        for match in SENTENCE.finditer(self.rest, self._searched):
            before = self.rest[: match.end()].rstrip(CLOSERS)
            if ABBREVIATION.search(before):
                continue
            if match.end() == len(self.rest) and match[0][0] != "\n":
                return None
            if not self.rest[: match.start()].strip():
                if match[0][0] == "\n":
                    continue
            elif match[0][0] == "\n":
                return match.start()
            return match.end()
        return None


def finished(sentence: str) -> str:
    """The sentence with an end mark: one that its writer left open is closed."""
    bare = sentence.rstrip()
    if ends_whole(bare):
        return bare
    mark = "。" if has_chinese(bare[-12:]) else "."
    return bare.rstrip(" ,，;；:：、-—") + mark


def split_sentences(text: str) -> list[str]:
    """The sentences of a finished text."""
    reader = SentenceReader()
    found = reader.push(text)
    return [*found, reader.rest] if reader.rest.strip() else found
