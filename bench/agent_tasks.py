"""Sixty tasks in Chinese and English, some with files, with the interpreter and without.

`python -m bench.agent_tasks [MODEL] [LANGUAGE]`; LANGUAGE is zh or en.
"""

import json
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex

from app.agent.conversation import Bounds
from app.agent.service import AgentService
from app.models.interface import Registry, Sampling
from app.services import build_services
from app.settings import read_settings

GREEDY = Sampling(temperature=0, max_new_tokens=200)
AT_ONCE = 8


@dataclass(frozen=True)
class Question:
    """A task, what its answer must contain, and the files it needs: name -> text."""

    kind: str
    task: str
    answer: str
    language: str
    files: dict[str, str] = field(default_factory=dict)


def questions(language: str = "") -> list[Question]:
    """Those of one language, or all."""
    rows = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return [Question(**row) for row in rows if language in ("", row["language"])]


FILE = Path(__file__).with_suffix(".jsonl")


def main(arguments: list[str]) -> None:
    """One JSON line a task, one a kind; the last one compares the shares solved."""
    model = arguments[0] if arguments else "smollm2-135m"
    asked = questions(arguments[1] if len(arguments) > 1 else "")
    of_kind: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        services = build_services(read_settings(["--model", model]), with_knowledge=False)
        agent = AgentService(services.registry, Path(folder), most_sessions=2 * AT_ONCE)
        solved = {"without": 0, "with": 0, "output": 0}
        with ThreadPoolExecutor(AT_ONCE) as pool:  # a few at once share the engine's batch
            answers = pool.map(partial(both_ways, services.registry, agent, model), asked)
            for question, (plain, answer, outputs) in zip(asked, answers, strict=True):
                marks = {
                    "without": contains(plain, question),
                    "with": contains(answer, question),
                    "output": contains(outputs, question),
                }
                for way, mark in marks.items():
                    solved[way] += mark
                of_kind[f"{question.kind} {question.language}"] += marks["with"]
                say(kind=question.kind, task=question.task, **marks, answer=answer[:120], outputs=outputs[-120:])
        agent.close()
        services.close()
    count = len(asked)
    kinds = Counter(f"{question.kind} {question.language}" for question in asked)
    say(step="solved of each kind", **{kind: f"{of_kind[kind]} of {total}" for kind, total in kinds.items()})
    say(step="shares solved", **{way: round(number / count, 2) for way, number in solved.items()})
    say(bench="agent_tasks", ratio=round(solved["with"] / max(1, solved["without"]), 2), of="solved with / without")


def both_ways(registry: Registry, agent: AgentService, model: str, question: Question) -> tuple[str, str, str]:
    """The answer without the interpreter, the answer with it, and all that the code printed."""
    plain = without_interpreter(registry, model, question)
    return plain, *with_interpreter(agent, model, question, token_hex(8))


def without_interpreter(registry: Registry, model: str, question: Question) -> str:
    with registry.lease(model) as leased:
        shown = "".join(f"\n\n{name}:\n{text}" for name, text in question.files.items())
        return "".join(leased.stream([{"role": "user", "content": question.task + shown}], GREEDY))


def with_interpreter(agent: AgentService, model: str, question: Question, session: str) -> tuple[str, str]:
    """The final answer, and all that the code printed."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in question.files.items():
            file = Path(folder) / name
            file.write_text(text, encoding="utf-8")
            agent.add_file(session, file, name)
    steps = list(agent.run(session, question.task, model, Bounds(max_steps=4, seconds=600, sampling=GREEDY)))[-1]
    agent.reset(session)
    answer = steps[-1].text if steps[-1].kind == "answer" else ""
    return answer, "\n".join(step.text for step in steps if step.kind == "output")


def contains(text: str, question: Question) -> bool:
    """The expected answer as a word of its own: 6 is not found in 1776."""
    padded = "".join(letter if letter.isalnum() or letter == "-" else " " for letter in text)
    wanted = "".join(letter if letter.isalnum() or letter == "-" else " " for letter in question.answer)
    return f" {' '.join(wanted.split())} " in f" {' '.join(padded.split())} "


def say(**figures: object) -> None:
    print(json.dumps(figures, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
