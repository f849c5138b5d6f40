"""Question set of the benches: each question with the words of a sample document that answer it, or with none."""

from dataclasses import dataclass
from typing import Literal

from app.paths import ROOT

SAMPLES = ROOT / "assets" / "samples"


@dataclass(frozen=True)
class Question:
    """`file` (below the samples) and the span of the answering words; no file where the documents do not say."""

    text: str
    language: Literal["zh", "en"]
    file: str = ""
    start: int = 0
    end: int = 0

    def answered_by(self, file: str, start: int, end: int) -> bool:
        """Whether a passage holds the answering words whole."""
        return file == self.file and start <= self.start and end >= self.end


def load_questions(language: Literal["zh", "en"]) -> list[Question]:
    """All questions of a language; fails loudly where a quote no longer stands in its document exactly once."""
    questions = []
    for line in (ROOT / "bench" / "questions" / f"{language}.tsv").read_text().splitlines():
        file, quote, text = line.split("\t")
        if file == "-":
            questions.append(Question(text, language))
            continue
        content = (SAMPLES / language / file).read_text()
        if content.count(quote) != 1:
            raise ValueError(f"{language}/{file} does not hold «{quote}» exactly once")
        start = content.index(quote)
        questions.append(Question(text, language, f"{language}/{file}", start, start + len(quote)))
    return questions
