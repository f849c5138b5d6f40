"""Validate the inputs of a story: premise, style, length, language, sampling."""

import re
from dataclasses import dataclass, field

from app.errors import Language
from app.input_ranges import seed_of, within
from app.story.bible import Bible
from app.story.errors import EmptyPremise, OtherLanguage, PremiseTooLong, WrongLanguage, WrongLength
from app.story.outline import Chapter

SHORTEST, LONGEST, USUAL = 50, 20_000, 300
MOST_CHARACTERS = 20_000  # of a premise; refused before a tokenizer spends time on it
TEMPERATURE = 0.8  # whatever the checkpoint's own: a story is to vary
HAN = re.compile(r"[\u3400-\u9fff]")
OTHER_SCRIPT = re.compile(r"[\u0370-\u1fff\u3040-\u30ff\u3130-\u318f\ua000-\uabff\uac00-\ud7ff\ufb1d-\ufefc]")
ACCENTED = re.compile(r"[à-öø-ÿœßñ]", re.IGNORECASE)
ASKED = re.compile(r"(\d{2,5})\s*(?:个)?(字|汉字|words?\b)", re.IGNORECASE)


@dataclass(frozen=True)
class StoryRequest:
    """One story. `length` in characters (zh) or words (en); an empty `model` means the default one."""

    premise: str
    language: Language
    style: str = ""
    length: int = USUAL
    model: str = ""
    temperature: float = TEMPERATURE
    seed: int | None = None
    bible: Bible = field(default_factory=Bible)
    outline: tuple[Chapter, ...] = ()


def story_request(
    premise: object,
    style: str | None = None,
    length: float | None = None,
    language: str | None = None,
    model: str | None = None,
    temperature: float | None = None,
    seed: float | str | None = None,
    *,
    bible: Bible | None = None,
    outline: tuple[Chapter, ...] = (),
) -> StoryRequest:
    """Check what came from a page or over HTTP. None stands for the default.

    The length left out is the one that the premise names («一个300字的小故事»), else 300.
    """
    if not isinstance(premise, str) or not premise.strip():
        raise EmptyPremise
    if (characters := len(premise) + len(style or "")) > MOST_CHARACTERS:
        raise PremiseTooLong(tokens=characters, limit=MOST_CHARACTERS)
    return StoryRequest(
        premise=premise.strip(),
        style=(style or "").strip(),
        length=_length(length, premise),
        language=_language(language, premise),
        model=model or "",
        temperature=within("temperature", temperature, 0.0, 2.0, TEMPERATURE),
        seed=seed_of(seed),
        bible=bible or Bible(),
        outline=outline,
    )


def language_of(text: str) -> Language | None:
    """Chinese or English, None for what is neither."""
    han, letters = len(HAN.findall(text)), sum(letter.isalpha() for letter in text)
    if not letters or len(OTHER_SCRIPT.findall(text)) > 0.1 * letters:
        return None
    if han >= 0.3 * letters:
        return "zh"
    return None if len(ACCENTED.findall(text)) > 0.03 * letters else "en"


def _language(language: str | None, premise: str) -> Language:
    if language in ("zh", "en"):
        return "zh" if language == "zh" else "en"
    if language not in (None, "", "auto"):
        raise WrongLanguage(value=str(language)[:40])
    found = language_of(premise)
    if found is None:
        raise OtherLanguage
    return found


def _length(length: float | None, premise: str) -> int:
    if length is None:
        named = ASKED.search(premise)
        length = int(named[1]) if named else USUAL
    if isinstance(length, bool) or not isinstance(length, int | float) or not SHORTEST <= length <= LONGEST:
        raise WrongLength(value=length, low=SHORTEST, high=LONGEST)
    return int(length)
