"""Training hyperparameters and their allowed ranges."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from app.errors import BadInput, Language
from app.texts import load_texts

Method = Literal["lora", "qlora"]
LEAST_HELD_OUT, MOST_HELD_OUT = 8, 64  # different rows for validation


class BadOption(BadInput):
    zh = "训练设置“{field}”（{key}）不能是 {value}，应为 {allowed}。"
    en = "The training setting “{field}” ({key}) cannot be {value}; it should be {allowed}."

    def text(self, language: Language) -> str:
        """With the name that the setting has on the page."""
        field = load_texts(language).get(f"compare.{self.values['key']}", self.values["key"])
        return (self.zh if language == "zh" else self.en).format(**self.values, field=field)


@dataclass(frozen=True)
class TrainOptions:
    """Lengths in tokens, intervals in steps; a step is one optimiser update of `batch` times `accumulation` rows."""

    method: Method = "lora"
    steps: int = 20
    epochs: float = 0.0  # above 0 it replaces steps
    learning_rate: float = 1e-3
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    batch: int = 2
    accumulation: int = 1
    max_length: int = 512
    save_every: int = 5
    evaluate_every: int = 10
    validation: float = 0.1  # share of the rows that is held out; none where that would be too few
    patience: int = 0  # checkpoints without a lower validation loss after which the run ends; 0: it goes to its end
    seed: int = 0

    def __post_init__(self) -> None:
        for key, (low, high) in LIMITS.items():
            value = getattr(self, key)
            kind = (int, float) if key in FRACTIONS else int
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise BadOption(key=key, value=value, allowed=f"{low} - {high}")
        if self.method not in ("lora", "qlora"):
            raise BadOption(key="method", value=self.method, allowed="lora, qlora")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """From a page or a request; numbers written as 40.0 count as 40. Unknown keys are refused."""
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                raise BadOption(key=key, value=values[key], allowed=", ".join(sorted(known)))
        return cls(**{key: _whole(key, value) for key, value in values.items() if value is not None})

    def total_steps(self, rows: int) -> int:
        """Steps for a data set of so many rows."""
        if not self.epochs:
            return self.steps
        return max(1, round(self.epochs * rows / (self.batch * self.accumulation)))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


FRACTIONS = {"learning_rate", "alpha", "dropout", "epochs", "validation"}
LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, 1_000_000),
    "epochs": (0, 1000),
    "learning_rate": (1e-7, 1.0),
    "rank": (1, 512),
    "alpha": (0.01, 4096),
    "dropout": (0, 0.9),
    "batch": (1, 512),
    "accumulation": (1, 1024),
    "max_length": (16, 262_144),
    "save_every": (1, 1_000_000),
    "evaluate_every": (1, 1_000_000),
    "validation": (0, 0.5),
    "patience": (0, 1000),
    "seed": (0, 2**31 - 1),
}


def _whole(key: str, value: Any) -> Any:
    return int(value) if key not in FRACTIONS and isinstance(value, float) and value.is_integer() else value
