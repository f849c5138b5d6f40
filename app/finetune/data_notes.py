"""What was left out of training data, or changed in it, while it was read: counts of rows, told to their owner."""

from dataclasses import dataclass

from app.errors import Language

# What may be changed in a row so that it can be trained on.
CHANGES = {
    "empty": ("{count} 行没有任何消息，已略去。", "Rows without any message, which are left out: {count}."),
    "begins": (
        "{count} 行以助手的话开头，这些话前面没有问题，已略去。",
        "Rows that begin with an answer to nothing, which is left out: {count}.",
    ),
    "unanswered": (
        "{count} 行的最后一个问题没有回答，已略去这个问题。",
        "Rows whose last question has no answer, which is left out: {count}.",
    ),
    "joined": (
        "{count} 行里同一角色连续说了几次，已合并成一次。",
        "Rows in which one role speaks twice in a row, which is joined to one turn: {count}.",
    ),
    "system": (
        "{count} 行的中间有 system，已并入下一个问题。",
        "Rows with a system message in the middle, which is put into the next question: {count}.",
    ),
}


@dataclass(frozen=True)
class Note:
    """How many rows were changed while they were read, `change` a key of CHANGES."""

    change: str
    rows: int

    def text(self, language: Language) -> str:
        zh, en = CHANGES[self.change]
        return (zh if language == "zh" else en).format(count=self.rows)
