"""Model catalog: resolve a name to a known model, hub repository, local folder or GGUF file."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from app.errors import UnknownModel
from app.models.backends.llama_cpp.gguf_file import read_facts
from app.models.loading.checkpoint import count_parameters, is_unpacked, read_config

Source = Literal["packaged", "hub", "folder"]
Modality = Literal["text", "vision"]
ChatFormat = Literal["", "internlm", "internlm2"]

CATALOG = Path(__file__).with_name("models.toml")
PACKAGED = "smollm2-135m"
BYTES_PER_PARAMETER = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "auto": 2.0}
# 4-bit: NF4 in blocks of 64 whose scales are themselves stored in 8 bits; 8-bit: one byte and a scale per row.
BYTES_QUANTISED = {"4bit": 0.516, "8bit": 1.0}
BYTES_ON_PROCESSORS = {"4bit": 0.625, "8bit": 1.0}  # 4-bit: groups of 32 with a scale and a middle in 16 bits
# How a name may end that asks for another precision than the settings'.
# int4 is 4bit in this process, where 4bit is a GGUF file that takes no adapters.
PRECISIONS: dict[str, str | None] = {"full": None, "8bit": "8bit", "4bit": "4bit", "int4": "4bit"}
# Room beside the weights for the cache and the activations of a few conversations.
WORKING_MIB = 2048
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
GGUF_OF_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)#([\w./-]+\.[gG][gG][uU][fF])")
INTERNLM_LICENCE = "Apache-2.0 code; weights free for research, commercial use on request"


class NoSuchFolder(UnknownModel):
    zh = "这台服务器上没有文件夹或文件 {name}。请检查路径。"
    en = "There is no folder or file {name} on this server. Check the path."


@dataclass(frozen=True)
class ModelCard:
    """A model before it is loaded. Parameters and context are 0 while unknown, as for a repository not yet fetched."""

    name: str
    source: Source
    location: str  # hub repository, local folder, or the wheel that packages it
    parameters: int = 0
    embedding_parameters: int = 0  # of these, the ones that quantised loading leaves alone
    active_parameters: int = 0  # the ones that a token meets, of a mixture of experts
    context_tokens: int = 0
    modality: Modality = "text"
    licence: str = ""
    languages: tuple[str, ...] = ()
    note_zh: str = ""
    note_en: str = ""
    chat_format: ChatFormat = ""  # used where the checkpoint has no template of its own
    stop_tokens: tuple[str, ...] = ()
    gguf: str = ""  # the file at the location that llama.cpp runs
    gguf_mib: int = 0
    unpacks: bool = False  # AWQ or GPTQ that becomes ordinary weights while it is read

    def mib(self, dtype: str, quantise: str | None, device: str = "cuda") -> int:
        """Memory for the weights in MiB, 0 while the size is unknown. `quantise` is None, "4bit" or "8bit"."""
        if self.gguf:
            return self.gguf_mib
        plain = BYTES_PER_PARAMETER[dtype]
        packed = (BYTES_ON_PROCESSORS if device == "cpu" else BYTES_QUANTISED)[quantise] if quantise else plain
        linear = self.parameters - self.embedding_parameters
        return round((linear * packed + self.embedding_parameters * plain) / 2**20)


@dataclass(frozen=True)
class Choice:
    """A model and how it is to be loaded."""

    name: str
    quantise: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A base as it is to be loaded. `name` is the one in lists and in the ledger: it tells the precision only where
    that is not how the settings load everything."""

    name: str
    card: ModelCard
    quantise: str | None


def _read_cards() -> tuple[ModelCard, ...]:
    """The cards of models.toml, each followed by the one of its GGUF file."""
    rows = tomllib.loads(CATALOG.read_text(encoding="utf-8"))["model"]
    return tuple(card for row in rows for card in _cards_of(row))


def _cards_of(row: dict[str, Any]) -> list[ModelCard]:
    total, embedding = row["millions"]
    card = ModelCard(
        name=row["name"],
        source=row.get("source", "hub"),
        location=row["location"],
        parameters=round(total * 10**6),
        embedding_parameters=round(embedding * 10**6),
        active_parameters=row.get("active", 0) * 10**6,
        context_tokens=row["context"],
        modality=row.get("modality", "text"),
        licence=INTERNLM_LICENCE if row["licence"] == "internlm" else row["licence"],
        languages=tuple(row.get("languages", ("zh", "en"))),
        note_zh=row["zh"],
        note_en=row["en"],
        chat_format=row.get("format", ""),
        stop_tokens=tuple(row.get("stops", ())),
    )
    if "gguf" not in row:
        return [card]
    file = row["gguf"]
    return [
        card,
        replace(
            card,
            name=f"{card.name}-gguf",
            location=file["location"],
            gguf=file["file"],
            gguf_mib=file["mib"],
            modality="text",  # llama.cpp is given no picture
            note_zh=card.note_zh.removeprefix("看图："),
            note_en=card.note_en.removeprefix("Sees pictures: "),
        ),
    ]


_CARDS = _read_cards()
# Best first: what `auto` takes on a GPU when it fits.
_LADDER = (Choice("internlm3-8b"), Choice("internlm3-8b", "4bit"), Choice("internlm2.5-1.8b"))


def names() -> list[str]:
    """The names of the catalog, the packaged model first."""
    return [card.name for card in _CARDS]


def find(name: str) -> ModelCard:
    """The card of a catalog name, a hub repository `owner/name`, a local folder, or a GGUF file: a path, or
    `owner/name#file.gguf`. Raises UnknownModel, NotAModel.

    The precision that a name may end in is no part of its card.
    """
    wanted, _ = split_precision(name)
    if card := _listed(wanted):
        return card
    if place := place_of(wanted):
        return own_card(wanted, place)
    if (part := GGUF_OF_REPOSITORY.fullmatch(wanted)) and ".." not in wanted:
        return ModelCard(name=wanted, source="hub", location=part[1], gguf=part[2])
    if REPOSITORY.fullmatch(wanted) and ".." not in wanted:
        return ModelCard(name=wanted, source="hub", location=wanted)
    if looks_like_a_path(wanted):
        raise NoSuchFolder(name=wanted[:200])
    raise UnknownModel(name=wanted[:200], known=suggestions(wanted))


def card_of(name: str, folder: Path) -> ModelCard:
    """The card of a base whose files are in `folder`: it may have its name from elsewhere."""
    return _listed(split_precision(name)[0]) or ModelCard(name=name, source="folder", location=str(folder))


def _listed(name: str) -> ModelCard | None:
    return next((card for card in _CARDS if name.lower() in (card.name, card.location.lower())), None)


def place_of(name: str) -> Path | None:
    """The folder or the GGUF file that a name is the path of; None for what the catalog has."""
    there = None if _listed(name) else _existing(name)
    if there and there.is_file() and name.lower().endswith(".gguf"):
        return Path(name).expanduser().absolute()  # a link in the hub's cache has another name than its target
    return there if there and there.is_dir() else None


def own_card(name: str, place: Path) -> ModelCard:
    """The card of a folder or a GGUF file of this machine. Raises NotAModel."""
    folder, gguf = (place, "") if place.is_dir() else (place.parent, place.name)
    return measured(ModelCard(name=name, source="folder", location=str(folder), gguf=gguf), folder)


def suggestions(name: str, known: Iterable[str] = ()) -> str:
    """At most three known names for a sentence: those that read alike, else the first ones."""
    known = list(known) or names()
    close = get_close_matches(name.strip().lower(), known, 3, 0.5)
    return ", ".join(close or known[:3])


def is_packaged(name: str) -> bool:
    """Whether a name, of whatever precision, means the model that comes with the program."""
    return split_precision(name)[0].lower() in (_CARDS[0].name, _CARDS[0].location)


def split_precision(name: str) -> tuple[str, str]:
    """`qwen3-4b:8bit` as (`qwen3-4b`, `8bit`); the second is empty where the name ends in no precision."""
    plain, _, precision = name.strip().rpartition(":")
    return (plain, precision) if plain and precision in PRECISIONS else (name.strip(), "")


def chosen(name: str, usual: str | None, own: Mapping[str, ModelCard]) -> Chosen:
    """The base that `name` means where models are loaded in the `usual` precision. `own` are cards made here.

    Raises UnknownModel, NotAModel.
    """
    plain, precision = split_precision(name)
    card = own.get(plain) or find(plain)
    quantise = PRECISIONS[precision] if precision else usual
    return Chosen(card.name if quantise == usual else f"{card.name}:{precision}", card, quantise)


def measured(card: ModelCard, folder: Path) -> ModelCard:
    """The card with size, context and modality read from the files in `folder`, where the card lacks them."""
    if card.gguf:
        return _measured_gguf(card, folder)
    config = read_config(folder, card.name)
    text = config.get("text_config") or config
    total, embedding = count_parameters(folder, card.name)
    return replace(
        card,
        parameters=card.parameters or total,
        embedding_parameters=card.embedding_parameters or embedding,
        context_tokens=card.context_tokens or int(text.get("max_position_embeddings") or 0),
        modality="vision" if "vision_config" in config else card.modality,
        unpacks=is_unpacked(config),
    )


def _measured_gguf(card: ModelCard, folder: Path) -> ModelCard:
    facts = read_facts(folder, card.gguf, card.name)
    return replace(
        card,
        parameters=facts.parameters,
        embedding_parameters=facts.embedding_parameters,
        context_tokens=facts.context_tokens or card.context_tokens,
        gguf_mib=round(facts.bytes / 2**20),
    )


def choose(gpu_mib: int | None, hub: bool) -> Choice:
    """What `auto` means: the best InternLM that fits the GPU where there is one and the hub, else the packaged one."""
    if gpu_mib is None or not hub:
        return Choice(PACKAGED)
    for choice in _LADDER:
        if find(choice.name).mib("bfloat16", choice.quantise) + WORKING_MIB <= gpu_mib:
            return choice
    return Choice(PACKAGED)


def looks_like_a_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~", ".\\")) or bool(re.match(r"[A-Za-z]:[\\/]", name))


def without_path(name: str) -> str:
    """The last part of a path, for those who are told a name and not where it lies; any other name as it is."""
    return Path(name).name if looks_like_a_path(name) else name


def _existing(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path.resolve() if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, a null character, no such user
        return None
