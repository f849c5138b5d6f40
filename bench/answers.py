"""Quality of answers from documents: quotes that hold the answer, refusals, and verdicts against judgements by hand.

    python -m bench.answers [--wrong]        quotes, refusals, verdicts: no language model
    python -m bench.answers --model MODEL    the same, and that model's answers: is each marked or quoted?
    python -m bench.answers --model MODEL --retrieval en zh --temperature 0.7 --seed 1    to other questions, drawn

`bench/answers/` holds the questions, documents of another kind than the samples, and sentences judged by hand.
The baseline is the first three sentences of the best passage.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from app.knowledge.answer.answering import Answerer, Question
from app.knowledge.answer.citing import CitingProbe
from app.knowledge.answer.quotes import MOST_QUOTES, choose_quotes, read
from app.knowledge.answer.source_sentences import SourceSentence, source_sentences
from app.knowledge.answer.verdicts import judge
from app.knowledge.ingest.chunking import split
from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.sources import folder_files
from app.knowledge.retrieve.embedders import PACKAGED
from app.knowledge.retrieve.retrieval import Searcher
from app.models.interface import Sampling
from app.paths import ROOT
from bench.folder_index import folder_index, packaged_registry
from bench.measure import line
from bench.question_set import SAMPLES, Set, load_questions

SET = ROOT / "bench" / "answers"
FOLDERS = {"samples": SAMPLES, "tune": SET / "documents" / "tune", "held": SET / "documents" / "held"}
ALL_OF = "…"  # between words that must all stand in one quote: key and value of a table's row
K = 5


@dataclass(frozen=True)
class Asked:
    """A question with the file and the words that answer it; neither where the documents do not say it.

    `part`: over the samples, over the documents that were looked at while tuning, or over those held out.
    """

    part: str
    language: str
    file: str
    answer: str
    text: str

    def answered_by(self, file: str, text: str) -> bool:
        """Whether this text of a file holds the answer."""
        return Path(file).name == self.file and all(part in text for part in self.answer.split(ALL_OF))


def questions() -> list[Asked]:
    """The questions of `questions.tsv`."""
    rows = [row.split("\t") for row in (SET / "questions.tsv").read_text().splitlines()]
    return [Asked(*(value if value != "-" else "" for value in row)) for row in rows]


@dataclass(frozen=True)
class Result:
    """What the documents gave for a question, without a language model."""

    asked: Asked
    refused: bool
    found: bool
    quoted: bool
    first_quoted: bool
    baseline: bool
    quotes: tuple[str, ...]


def look_up(searcher: Searcher, asked: Asked) -> Result:
    """Search, judge and quote as an answer does; quotes also where it would be refused."""
    hits, evidence = searcher.search_with_evidence([asked.text], K)
    reading = read(asked.text, hits, searcher.embedder, evidence)
    quotes = choose_quotes(reading, searcher.reranker)
    held = [asked.answered_by(hits[quote.number - 1].passage.path, quote.text) for quote in quotes]
    first = [one for one in reading.sentences if one.passage == 1][:MOST_QUOTES]
    return Result(
        asked,
        refused=not reading.answers(evidence),
        found=any(asked.answered_by(hit.passage.path, hit.passage.content) for hit in hits),
        quoted=any(held),
        first_quoted=bool(held) and held[0],
        baseline=any(asked.answered_by(hits[0].passage.path, one.text) for one in first),
        quotes=tuple(quote.text for quote in quotes),
    )


def report(name: str, results: Sequence[Result]) -> None:
    """Rates over some of the questions. F1 takes «refused» as what is to be found."""
    known = [result for result in results if result.asked.file]
    refused = [result for result in results if result.refused]
    rightly = sum(not result.asked.file for result in refused)
    unanswerable = len(results) - len(known)
    shown = [result.quoted and not result.refused for result in known]
    line(
        part=name,
        answerable=len(known),
        unanswerable=unanswerable,
        passage_found=share(result.found for result in known),
        quote_holds_answer=share(result.quoted for result in known),
        shown=share(shown),
        first_quote=share(result.first_quoted for result in known),
        baseline=share(result.baseline for result in known),
        refusal_f1=2 * rightly / max(len(refused) + unanswerable, 1),
        refused_answerable=share(result.refused for result in known),
        refused_unanswerable=rightly / max(unanswerable, 1),
    )


def share(values: Iterable[bool]) -> float:
    """The mean of some truths."""
    listed = list(values)
    return sum(listed) / max(len(listed), 1)


def verdicts() -> None:
    """Sentences judged by hand, against every passage of their documents: are those shown as supported right?"""
    known = {part: passages(folder) for part, folder in FOLDERS.items()}
    counted: Counter[tuple[bool, bool]] = Counter()
    for row in (SET / "judged.tsv").read_text().splitlines():
        part, right, question, sentence = row.split("\t")
        found = judge(sentence, question, *known[part])
        supported = any(verdict.judgement == "supported" for verdict in found)
        counted[supported, right == "yes"] += 1
        if supported and right == "no":
            line(shown_as_supported=sentence, question=question)
    shown = counted[True, True] + counted[True, False]
    right_ones = counted[True, True] + counted[False, True]
    precision, recall = counted[True, True] / max(shown, 1), counted[True, True] / max(right_ones, 1)
    line(part="verdicts", sentences=counted.total(), shown=shown, precision=precision, recall=recall)


def passages(folder: Path) -> tuple[list[SourceSentence], list[str]]:
    """All sentences and texts of a folder's passages."""
    sentences: list[SourceSentence] = []
    texts: list[str] = []
    with closing(Converter()) as convert:
        for file in folder_files(folder):
            text = convert(file.path, file.name)
            for passage in split(text):
                texts.append(text.content[passage.start : passage.end])
                sentences += source_sentences(len(texts), texts[-1], passage.heading)
    return sentences, texts


def retrieval_questions(names: Sequence[Set]) -> list[Asked]:
    """Those of `bench.retrieval` that the samples answer."""
    found = [one for name in names for one in load_questions(name) if one.file]
    return [Asked("samples", one.language, Path(one.file).name, "", one.text) for one in found]


def by_model(searchers: dict[str, Searcher], name: str, asked_of: Sequence[Asked], sampling: Sampling) -> None:
    """The model's answers to every question: is every sentence judged, and does a quote stand above it?"""
    counted: Counter[str] = Counter()
    citing = CitingProbe()
    with TemporaryDirectory() as folder, closing(packaged_registry(Path(folder))) as registry:
        for asked in asked_of:
            answerer = Answerer(registry, searchers[asked.part], citing)
            *_, answer = answerer.ask(Question(asked.text, model=name, sampling=sampling))
            counted["answers"] += 1
            counted["refused"] += answer.refused
            counted["quoted"] += bool(answer.quotes)
            counted["marked"] += bool(answer.verdicts)
            counted["neither"] += not (answer.refused or answer.quotes or answer.verdicts)
            for verdict in answer.verdicts:
                counted[verdict.judgement] += 1
                said = answer.text[verdict.start : verdict.end].strip()
                source = answer.hits[verdict.passage - 1].passage.content if verdict.passage else ""
                spans = verdict.spans or ((0, 300),)
                near = source[max(0, spans[0][0] - 200) : spans[-1][1] + 200]
                line(part=asked.part, question=asked.text, sentence=said, verdict=verdict.judgement, source=near)
    cites = {language: citing.cites(name, language == "zh") for language in ("zh", "en")}
    line(part="model", model=name, cites=cites, **counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default=PACKAGED, help="name or folder of a sentence-transformers model")
    parser.add_argument("--reranker", default="", help="name or folder of a cross-encoder")
    parser.add_argument("--model", default="", help="also ask this chat model")
    parser.add_argument(
        "--retrieval", nargs="+", default=[], help="ask it the questions of these sets of bench.retrieval"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="of its answers")
    parser.add_argument("--seed", type=int, default=None, help="of its answers")
    parser.add_argument("--wrong", action="store_true", help="print every question whose quotes or refusal are wrong")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        indexed = {
            root: folder_index(Path(folder) / root.name, root, given.embedder, given.reranker)
            for root in (SAMPLES, SET / "documents")
        }
        searchers = {part: indexed[SAMPLES if part == "samples" else SET / "documents"] for part in FOLDERS}
        results = [look_up(searchers[asked.part], asked) for asked in questions()]
        for result in results:
            if given.wrong and (bool(result.asked.file) == result.refused or (result.asked.file and not result.quoted)):
                line(**asdict(result))
        for part in FOLDERS:
            report(part, [result for result in results if result.asked.part == part])
        report("other documents", [result for result in results if result.asked.part != "samples"])
        report("all", results)
        verdicts()
        if given.model:
            sampling = Sampling(given.temperature, max_new_tokens=120, seed=given.seed)
            by_model(searchers, given.model, retrieval_questions(given.retrieval) or questions(), sampling)


if __name__ == "__main__":
    main()
