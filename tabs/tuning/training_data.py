"""Training data from the form: the wizard's rows, an uploaded file, or a kept data set."""

from dataclasses import dataclass
from pathlib import Path

from app.errors import Language
from app.finetune.data import Conversation
from app.finetune.data_files import read_file
from app.finetune.data_notes import Note
from app.finetune.service import FinetuneService
from app.finetune.wizard import introduce
from tabs.shell.page import Visitor
from tabs.tuning.endpoint import NoFile
from tabs.tuning.training_widgets import FormValues


@dataclass(frozen=True)
class TrainingData:
    """Rows, the name to be learnt, the language of the samples, the numbers of the general rows, what was changed."""

    conversations: list[Conversation]
    language: Language
    identity: str = ""
    general: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()


def training_data(service: FinetuneService, visitor: Visitor, values: FormValues) -> TrainingData:
    """Raises NoFile, UnknownSet, and what reading raises."""
    spoken: Language = "zh" if values.language == "zh" else "en"
    if values.source == "wizard":
        made = introduce(values.name or "", spoken, values.wording or "")
        return TrainingData(made.conversations, spoken, made.name, made.general)
    if values.source == "kept":
        return TrainingData(service.datasets.read(visitor.name, values.kept or ""), spoken)
    if not values.file:
        raise NoFile
    read = read_file(Path(values.file))
    return TrainingData(read, spoken, notes=read.notes)
