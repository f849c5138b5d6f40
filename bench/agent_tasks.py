"""Twenty small tasks, with the interpreter and without: python -m bench.agent_tasks [MODEL]"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.agent.conversation import Bounds
from app.agent.service import AgentService
from app.models.interface import Registry, Sampling
from app.services import build_services
from app.settings import read_settings

GREEDY = Sampling(temperature=0, max_new_tokens=200)


@dataclass(frozen=True)
class Question:
    """A task and what its answer must contain."""

    kind: str
    task: str
    answer: str


QUESTIONS = (
    Question("arithmetic", "What is 37 times 48?", "1776"),
    Question("arithmetic", "What is 1234 plus 5678?", "6912"),
    Question("arithmetic", "What is 2 to the power of 20?", "1048576"),
    Question("arithmetic", "What is the remainder of 1000 divided by 7?", "6"),
    Question("arithmetic", "What is the sum of the numbers from 1 to 100?", "5050"),
    Question("text", "How many letters are in the word 'encyclopedia'?", "12"),
    Question("text", "Write the word 'stressed' backwards.", "desserts"),
    Question("text", "How many times does the letter 's' appear in 'mississippi'?", "4"),
    Question("text", "Write the word 'internet' in capital letters.", "INTERNET"),
    Question("text", "How many words are in the sentence 'the quick brown fox jumps over the lazy dog'?", "9"),
    Question("dates", "How many days are there from 2024-02-01 to 2024-03-01?", "29"),
    Question("dates", "What day of the week was 2000-01-01?", "Saturday"),
    Question("dates", "Is 2100 a leap year? Answer True or False.", "False"),
    Question("dates", "What is the date 100 days after 2023-01-01?", "2023-04-11"),
    Question("dates", "How many days are there in the year 2028?", "366"),
    Question("lists", "Sort the list [9, 4, 7, 1] in ascending order.", "[1, 4, 7, 9]"),
    Question("lists", "What is the largest number in [17, 92, 45, 88]?", "92"),
    Question("lists", "What is the sum of the list [12, 15, 21, 30]?", "78"),
    Question("lists", "List the first 5 square numbers starting with 1.", "1, 4, 9, 16, 25"),
    Question("lists", "How many even numbers are in [3, 8, 12, 7, 10, 5]?", "3"),
)


def main(arguments: list[str]) -> None:
    """One JSON line a task; the last one compares the shares solved."""
    model = arguments[0] if arguments else "smollm2-135m"
    with tempfile.TemporaryDirectory() as folder:
        services = build_services(read_settings(["--model", model]))
        registry: Registry = services.registry
        agent = AgentService(registry, Path(folder))
        solved = {"without": 0, "with": 0, "output": 0}
        for number, question in enumerate(QUESTIONS):
            plain = without_interpreter(registry, model, question)
            answer, outputs = with_interpreter(agent, model, question, f"task {number}")
            marks = {
                "without": contains(plain, question),
                "with": contains(answer, question),
                "output": contains(outputs, question),
            }
            for way, mark in marks.items():
                solved[way] += mark
            say(kind=question.kind, task=question.task, **marks, answer=answer[:120], outputs=outputs[-120:])
        agent.close()
        services.close()
    count = len(QUESTIONS)
    say(step="shares solved", **{way: round(number / count, 2) for way, number in solved.items()})
    say(bench="agent_tasks", ratio=round(solved["with"] / max(1, solved["without"]), 2), of="solved with / without")


def without_interpreter(registry: Registry, model: str, question: Question) -> str:
    with registry.lease(model) as leased:
        return "".join(leased.stream([{"role": "user", "content": question.task}], GREEDY))


def with_interpreter(agent: AgentService, model: str, question: Question, session: str) -> tuple[str, str]:
    """The final answer, and all that the code printed."""
    steps = list(agent.run(session, question.task, model, Bounds(max_steps=4, seconds=60, sampling=GREEDY)))[-1]
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
