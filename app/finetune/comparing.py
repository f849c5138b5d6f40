"""Compare two models side by side, with a receipt for each (adapter hash, check on logits)."""

import hashlib
import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from app.errors import BadInput, StudioError
from app.finetune.adapter_host import AdapterHost
from app.models.interface import ChatModel, Generation, InspectableModel, Message, Sampling

Check = Literal["passed", "failed", "unknown"]
Choice = Literal["left", "right", "both", "neither"]
CHOICES: tuple[Choice, ...] = ("left", "right", "both", "neither")
LEAST_GAP = 1e-3  # logits; an adapter that moves them less is as good as none
LEAST_EXPLAINED = 0.5  # of a greedy answer's tokens, near-ties of low precision allowed for


class BadVote(BadInput):
    zh = "投票只能是：{allowed}。"
    en = "A vote is one of: {allowed}."


@dataclass(frozen=True)
class Receipt:
    """What one column was answered by. `check` is the verdict on the logits, `note` its reason."""

    model: str
    base: str
    revision: str
    adapter: str | None
    sha256: str
    active_layers: int
    seed: int | None
    temperature: float
    top_p: float
    max_new_tokens: int
    check: Check
    gap: float | None = None
    explained: float | None = None


@dataclass(frozen=True)
class Columns:
    """Both answers so far; the receipts come with the last one."""

    left: str = ""
    right: str = ""
    receipts: tuple[Receipt, Receipt] | None = None


class CompareService:
    """Compares, and keeps the votes in the server's data folder."""

    def __init__(self, registry: AdapterHost, data_folder: Path) -> None:
        self.registry = registry
        self._votes = data_folder / "votes.jsonl"
        self._lock = threading.Lock()

    def compare(
        self,
        left: str,
        right: str,
        messages: tuple[Sequence[Message], Sequence[Message]],
        sampling: Sampling,
        *,
        visitor: str = "",
    ) -> Iterator[Columns]:
        """Both models answer at once, from one set of weights where they share their base."""
        columns = Columns()
        with ExitStack() as leases:
            seen = self.registry.for_visitor(visitor)
            models = [leases.enter_context(seen.lease(name, full_weights=True)) for name in (left, right)]
            generations = [
                model.stream(asked, sampling, visitor=visitor, drop_oldest=True)
                for model, asked in zip(models, messages, strict=True)
            ]
            for generation in generations:
                leases.callback(generation.cancel)
            for side, piece in _together(generations):
                columns = (
                    replace(columns, left=columns.left + piece)
                    if side == 0
                    else replace(columns, right=columns.right + piece)
                )
                yield columns
            receipts = (
                self.receipt(models[0], left, messages[0], columns.left, sampling),
                self.receipt(models[1], right, messages[1], columns.right, sampling),
            )
            yield replace(columns, receipts=receipts)

    def receipt(
        self, model: ChatModel, name: str, messages: Sequence[Message], answer: str, sampling: Sampling
    ) -> Receipt:
        """Read the answer again, through the column's model and through the bare base."""
        base, plus, _ = name.rpartition("+")
        base = base if plus else name
        chosen = sampling.resolved(model.sampling_defaults)
        receipt = Receipt(
            model=name,
            base=base,
            revision=_revision(self.registry, base),
            adapter=None,
            sha256="",
            active_layers=0,
            seed=sampling.seed,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            max_new_tokens=sampling.max_new_tokens,
            check="unknown",
        )
        if not isinstance(model, InspectableModel):
            return receipt
        found = model.inspect(messages, answer)
        is_itself = found.gap >= LEAST_GAP if found.adapter else found.gap == 0
        explained = chosen.temperature > 0 or not answer or found.explained >= LEAST_EXPLAINED
        return replace(
            receipt,
            adapter=found.adapter,
            sha256=found.sha256,
            active_layers=found.active_layers,
            gap=found.gap,
            explained=found.explained,
            check="passed" if is_itself and explained and (found.adapter is not None) == bool(plus) else "failed",
        )

    def vote(self, visitor: str, choice: str, columns: Columns, prompt: str) -> None:
        """Note which side was better."""
        if choice not in CHOICES or columns.receipts is None:
            raise BadVote(allowed=", ".join(CHOICES))
        left, right = columns.receipts
        line = {
            "time": round(time.time()),
            "visitor": visitor,
            "vote": choice,
            "prompt": prompt,
            "left": {"answer": columns.left, **asdict(left)},
            "right": {"answer": columns.right, **asdict(right)},
        }
        with self._lock, self._votes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def votes(self, visitor: str) -> list[dict[str, Any]]:
        """This visitor's votes; all of them lie in the data folder, for whoever runs the server."""
        if not self._votes.exists():
            return []
        with self._lock:
            lines = self._votes.read_text(encoding="utf-8").splitlines()
        return [row for row in map(json.loads, lines) if row["visitor"] == visitor]


def _together(generations: Sequence[Generation]) -> Iterator[tuple[int, str]]:
    """Pieces of all generations as they come, each with its number. Errors of any are raised here."""
    pieces: queue.SimpleQueue[tuple[int, str | None, Exception | None]] = queue.SimpleQueue()

    def read(number: int, generation: Generation) -> None:
        try:
            for piece in generation:
                pieces.put((number, piece, None))
            pieces.put((number, None, None))
        except Exception as error:
            pieces.put((number, None, error))

    for number, generation in enumerate(generations):
        threading.Thread(target=read, args=(number, generation), daemon=True).start()
    left = len(generations)
    while left:
        number, piece, error = pieces.get()
        if error is not None:
            raise error
        if piece is None:
            left -= 1
        else:
            yield number, piece


def _revision(registry: AdapterHost, base: str) -> str:
    try:
        folder = registry.folder(base)
    except StudioError:
        return ""
    return revision_of(folder)


@lru_cache(maxsize=32)
def revision_of(folder: Path) -> str:
    """The hub's commit, or the SHA-256 of the weights' heads and sizes."""
    resolved = folder.resolve()
    if resolved.parent.name == "snapshots":
        return resolved.name
    digest = hashlib.sha256()
    for path in sorted([*resolved.glob("*.safetensors"), *resolved.glob("*.bin"), resolved / "config.json"]):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
    return digest.hexdigest()
