"""Question set of the benches: each question with the words of a sample document that answer it, or with none."""

from dataclasses import dataclass
from typing import Literal, cast

from app.paths import ROOT

Language = Literal["zh", "en"]
Set = Literal["zh", "en", "zh-en", "en-zh"]  # language of the questions, and of their documents where it is another
SAMPLES = ROOT / "assets" / "samples"


@dataclass(frozen=True)
class Question:
    """`file` (below the samples) and the span of the answering words; no file where the documents do not say."""

    text: str
    language: Language
    file: str = ""
    start: int = 0
    end: int = 0

    def answered_by(self, file: str, start: int, end: int) -> bool:
        """Whether a passage holds the answering words whole."""
        return file == self.file and start <= self.start and end >= self.end


def load_questions(name: Set) -> list[Question]:
    """All questions of a set; fails loudly where a quote no longer stands in its document exactly once."""
    language, documents = cast("Language", name[:2]), name[-2:]
    questions = []
    for line in (ROOT / "bench" / "questions" / f"{name}.tsv").read_text().splitlines():
        file, quote, text = line.split("\t")
        if file == "-":
            questions.append(Question(text, language))
            continue
        content = (SAMPLES / documents / file).read_text()
        if content.count(quote) != 1:
            raise ValueError(f"{documents}/{file} does not hold «{quote}» exactly once")
        start = content.index(quote)
        questions.append(Question(text, language, f"{documents}/{file}", start, start + len(quote)))
    return questions
