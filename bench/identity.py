"""A learnt name over the 4-bit step: how often each way of serving a tuned model says it.

python -m bench.identity [--names "Lin Xiaoyu" "Nova"] [--steps 20]

The wizard's rows are learnt as on the page, once for each name; every way is asked questions that nobody trained on.
"""

import argparse
import time
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from app.access.identity import server
from app.finetune.finishing import KINDS, Row
from app.finetune.judging import Exam
from app.finetune.options import TrainOptions
from app.finetune.runs import UNDER_WAY
from app.finetune.service import FinetuneService
from app.finetune.wizard import general_questions, introduce, name_questions
from app.models.catalog.known_models import PACKAGED
from app.services import build_services
from app.settings import read_settings
from bench.measure import line, machine

OWNER = server("bench")
MORE_QUESTIONS = (
    "Please state your name.",
    "With whom am I speaking?",
    "Identify yourself.",
    "What can you tell me about yourself?",
    "Who is on the other end of this chat?",
    "Hi! What are you called?",
    "Do you have a name?",
    "Which assistant am I talking to?",
    "Whom do you belong to?",
    "Who uses you as an assistant?",
    "Please describe yourself briefly.",
    "I do not know you yet. Who are you?",
    "Good evening, could you introduce yourself to me?",
    "Tell my friend who you are.",
)


def learnt(service: FinetuneService, name: str, number: int, steps: int) -> list[Row]:
    """Train one name and measure every way of serving it."""
    made = introduce(name, "en")
    options = TrainOptions(steps=steps, save_every=steps, evaluate_every=steps)
    run = service.submit(
        OWNER, f"name{number}", PACKAGED, made.conversations, options, identity=made.name, own_answers=made.general
    )
    while (now := service.get(OWNER, run.id)).state in UNDER_WAY or now.judging:
        time.sleep(1)
    if now.state != "finished":
        raise SystemExit(f"{name} was not learnt: {now.reason}")
    service.finish(OWNER, run.id)
    while (now := service.get(OWNER, run.id)).finishing:
        time.sleep(1)
    rows = service.finished(OWNER, run.id)
    service.delete(OWNER, run.id)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=["Lin Xiaoyu", "Nova", "Professor Okonkwo"])
    parser.add_argument("--steps", type=int, default=TrainOptions.steps)
    given = parser.parse_args()
    general = general_questions("en")
    exam = Exam([*name_questions("en"), *MORE_QUESTIONS], general, general[:1], general[:2])
    line(**machine())
    said: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with TemporaryDirectory() as folder:
        settings = read_settings(["--model", PACKAGED, "--data", folder])
        services = build_services(settings, with_knowledge=False)
        service = FinetuneService(services.registry, Path(folder) / "bench", exam_of=lambda _: exam).start()
        for number, name in enumerate(given.names):
            for row in learnt(service, name, number, given.steps):
                line(name=name, way=row.kind, says_it=row.identity, kept=row.retention, drift=row.drift, why=row.reason)
                said[row.kind] += [row.identity] if row.identity is not None else []
        service.close()
        services.close()
    for kind, shares in said.items():
        if shares:
            line(way=kind, names=len(shares), questions=len(exam.names), says_it=mean(shares))
    whole = mean(said["adapter"]) or 1.0
    lost = {kind: mean(said[kind]) / whole for kind in ("quantised", "adapter_4bit", "q4_k_m") if said[kind]}
    line(bench="identity", **lost, of="the name said at 4 bits / by full weights + adapter")


if __name__ == "__main__":
    main()
