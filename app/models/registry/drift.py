"""Quantisation drift: KL divergence of next-token distributions against the full-precision model.

The first model answers twenty prompts greedily; at each token of its answers both give their top log-probabilities.
Not every engine gives whole distributions, so both are compared by what both name among their LIKELIEST tokens, and
all the rest is one bucket. Tokens that read alike count together. Merging outcomes can only lower a divergence: the
figure is a lower bound of the full one, close where the named tokens carry most of the weight.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.access.identity import server
from app.errors import ModelError
from app.files import write_json
from app.models.interface import ChatModel, Drift, Message, Sampling, TokenScore, TokenScoringModel
from app.paths import ASSETS

PROMPTS = ASSETS / "drift" / "prompts.txt"
ANSWER_TOKENS = 16
LIKELIEST = 40
FLOOR = 1e-9  # what a bucket holds at least: rounding must not make a divergence endless
VISITOR = server("drift")


class CannotScore(ModelError):
    zh = "模型 {name} 运行的引擎不提供词元概率，无法测量回答偏移。请选择在本机运行的文本模型。"
    en = (
        "The engine of {name} gives no token probabilities, so answer drift cannot be measured."
        " Choose a text model that runs on this machine."
    )


class NothingToCompare(ModelError):
    zh = "模型 {name} 与参照没有可以比较的回答；它们的分词器或对话模板可能不同。"
    en = "Nothing of the answers of {name} can be compared: tokenizer or chat template may differ from the reference's."


@dataclass(frozen=True)
class Place:
    """One token of the reference's answer: its text, and log-probabilities of the most likely texts there."""

    text: str
    logs: dict[str, float]


Answer = tuple[str, str, tuple[Place, ...]]  # prompt, answer, the answer's places
Difference = tuple[float, bool]  # divergence at one place, and whether both find the same token most likely


@dataclass(frozen=True)
class Reference:
    """The answers that others are compared with."""

    answers: tuple[Answer, ...]

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(self))

    @classmethod
    def read(cls, file: Path) -> "Reference | None":
        """The saved reference; None where there is none, or not a whole one."""
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))["answers"]
            return cls(tuple((prompt, answer, tuple(Place(**p) for p in places)) for prompt, answer, places in rows))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def prompts() -> tuple[str, ...]:
    """The prompts that ship, in English and Chinese."""
    return tuple(PROMPTS.read_text(encoding="utf-8").splitlines())


def answered(model: ChatModel, asked: Sequence[str]) -> Iterator[Answer]:
    """The greedy answer of a leased model to each prompt, and what it holds most likely in it. Raises CannotScore."""
    if not isinstance(model, TokenScoringModel):
        raise CannotScore(name=model.name)
    sampling = Sampling(temperature=0, max_new_tokens=ANSWER_TOKENS)
    for prompt in asked:
        answer = "".join(model.stream(_turns(prompt), sampling, visitor=VISITOR))
        yield prompt, answer, _places(model, prompt, answer)


def compared(reference: Reference, model: ChatModel) -> Iterator[list[Difference]]:
    """For each answer of the reference, how a leased model differs at each of its places. Raises CannotScore."""
    for prompt, answer, places in reference.answers:
        pairs = _aligned(places, _places(model, prompt, answer))
        yield [(divergence(one.logs, other.logs), _first(one) == _first(other)) for one, other in pairs]


def summary(name: str, found: Iterable[Sequence[Difference]]) -> Drift:
    """All differences of one model as one figure. Raises NothingToCompare."""
    all_found = [difference for each in found for difference in each]
    if not all_found:
        raise NothingToCompare(name=name)
    count = len(all_found)
    return Drift(math.fsum(kl for kl, _ in all_found) / count, sum(same for _, same in all_found) / count, count)


def divergence(reference: dict[str, float], other: dict[str, float]) -> float:
    """KL(reference ‖ other) in nats over the texts that both name and one bucket for the rest."""
    named = reference.keys() & other.keys()
    pairs = [(math.exp(reference[text]), math.exp(other[text])) for text in named]
    rest = 1 - math.fsum(p for p, _ in pairs), 1 - math.fsum(q for _, q in pairs)
    floored = [(max(p, FLOOR), max(q, FLOOR)) for p, q in [*pairs, rest]]
    return max(0.0, math.fsum(p * math.log(p / q) for p, q in floored))


def _turns(prompt: str) -> list[Message]:
    return [{"role": "user", "content": prompt}]


def _places(model: ChatModel, prompt: str, answer: str) -> tuple[Place, ...]:
    if not isinstance(model, TokenScoringModel):
        raise CannotScore(name=model.name)
    return tuple(_place(score) for score in model.score_tokens(_turns(prompt), answer, LIKELIEST))


def _place(score: TokenScore) -> Place:
    shares: dict[str, float] = {}
    for text, log in score.top_logprobs:
        shares[text] = shares.get(text, 0.0) + math.exp(log)
    return Place(score.text, {text: round(math.log(max(share, FLOOR)), 5) for text, share in shares.items()})


def _aligned(one: Sequence[Place], other: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    """Places as far as both cut the answer into the same tokens."""
    for pair in zip(one, other, strict=False):
        if pair[0].text != pair[1].text:
            return
        yield pair


def _first(place: Place) -> str:
    return max(place.logs, key=lambda text: place.logs[text])
