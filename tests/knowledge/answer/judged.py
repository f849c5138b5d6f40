"""What is judged of an answer of one sentence, as the tests of verdicts ask it."""

from app.knowledge.answer.source_sentences import source_sentences
from app.knowledge.answer.verdicts import judge


def is_held(source: str, answer: str, question: str = "?", heading: str = "") -> bool:
    """Whether the passage is said to hold the answer."""
    sentences = list(source_sentences(1, source, (heading,) if heading else ()))
    (verdict,) = judge(answer, question, sentences, [source])
    return verdict.judgement == "supported"
