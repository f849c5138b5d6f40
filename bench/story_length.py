"""Do stories keep the length that was asked for? Twenty premises: python -m bench.story_length [MODEL]

Ten Chinese, ten English. A story counts when it ends on a whole sentence within 15 % of the length. The baseline is
the same model asked once for the same length, its answer left as it is.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.errors import Language
from app.models.interface import Registry, Sampling
from app.services import build_services
from app.settings import read_settings
from app.story.length import Target
from app.story.prompts import Moment, brief, story_messages
from app.story.request import StoryRequest, story_request
from app.story.service import StoryService

PREMISES = Path(__file__).parent / "questions" / "premises.json"
AT_ONCE = 8


def main(arguments: list[str]) -> None:
    """One JSON line a story; the last one gives the share that kept its length."""
    model = arguments[0] if arguments else "smollm2-135m"
    services = build_services(read_settings(["--model", model]))
    requests = load_requests(model)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        kept = list(pool.map(lambda request: steered(StoryService(services.registry), request), requests))
        plain = list(pool.map(lambda request: asked_once(services.registry, request), requests))
    services.close()
    say(step="asked once", kept=sum(plain), of=len(plain))
    say(bench="story_length", ratio=round(sum(kept) / len(kept), 3), of="stories that keep their length / stories")


def load_requests(model: str) -> list[StoryRequest]:
    rows = json.loads(PREMISES.read_text(encoding="utf-8"))
    return [
        story_request(row["premise"], None, row["length"], row["language"], model, seed=place)
        for place, row in enumerate(rows)
    ]


def steered(service: StoryService, request: StoryRequest) -> bool:
    *_, last = service.tell(request, visitor=request.premise)
    return judge("steered", request, last.text, removed=last.removed)


def asked_once(registry: Registry, request: StoryRequest) -> bool:
    moment = Moment("", request.length, False, 0)
    messages = story_messages(request, brief(request, ""), moment, "", None, True)
    sampling = Sampling(temperature=request.temperature, max_new_tokens=1024, seed=request.seed)
    with registry.lease(request.model) as model:
        return judge("asked once", request, "".join(model.stream(messages, sampling, visitor=request.premise)))


def judge(way: str, request: StoryRequest, text: str, **figures: object) -> bool:
    language: Language = request.language
    target = Target(request.length, language)
    kept = target.met(text)
    say(way=way, language=language, wanted=request.length, got=target.of(text), kept=kept, **figures, end=text[-60:])
    return kept


def say(**figures: object) -> None:
    print(json.dumps(figures, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
