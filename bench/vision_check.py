"""`make check-vision`: a model that sees, with its real weights from the hub, names what is on a drawn picture."""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from app.errors import StudioError
from app.models.catalog.hub import HubOffline, HubUnreachable
from app.models.interface import Message, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.pictures import as_jpeg

QUESTION = "Which two shapes are in this picture, and which colour has each? Answer in one short sentence."
WANTED = ("circle", "red", "square", "blue")


def drawn() -> bytes:
    """A red circle beside a blue square."""
    picture = Image.new("RGB", (640, 360), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((60, 80, 260, 280), fill="red")
    pen.rectangle((380, 80, 580, 280), fill="blue")
    return as_jpeg(picture)


def missing(answer: str) -> list[str]:
    """What the answer does not name."""
    return [word for word in WANTED if word not in answer.lower()]


def check(name: str, device: str, budget_mib: int, data: Path) -> int:
    """Ask and follow up. 0 where all is named, 1 where something is not, 2 where the model could not be had."""
    registry = ModelRegistry(Placement(device, "auto", None, budget_mib, data), name)
    asked: Message = {"role": "user", "content": QUESTION, "images": (drawn(),)}
    follow: Message = {"role": "user", "content": "Which of them is on the left?"}
    try:
        with registry.lease(name) as model:
            sampling = Sampling(temperature=0, max_new_tokens=80)
            answer = "".join(model.stream([asked], sampling))
            print(f"{name}: {answer}")
            said: Message = {"role": "assistant", "content": answer}
            print(f"then: {''.join(model.stream([asked, said, follow], sampling))}")
    except (HubUnreachable, HubOffline) as error:
        print(f"check-vision needs the hub, which cannot be had here: {error}", file=sys.stderr)
        return 2
    except StudioError as error:
        print(f"check-vision could not run: {error}", file=sys.stderr)
        return 2
    finally:
        registry.close()
    if left := missing(answer):
        print(f"not named: {', '.join(left)}", file=sys.stderr)
        return 1
    print("all is named")
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make check-vision", description=__doc__)
    parser.add_argument("--model", default="internvl3-1b", help="a name of the catalog, a hub repository or a folder")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--budget-mib", type=int, default=24_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        return check(chosen.model, chosen.device, chosen.budget_mib, Path(data))


if __name__ == "__main__":
    sys.exit(main())
