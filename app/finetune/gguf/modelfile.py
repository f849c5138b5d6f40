"""Ollama Modelfile of a GGUF file: chat template in Ollama's language, default system message, stops, sampling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from jinja2 import TemplateError

from app.models.interface import SamplingDefaults

Render = Callable[[list[dict[str, str]]], str]  # turns to a prompt that opens the assistant's answer
_SYSTEM, _ASKED, _SAID, _AGAIN = "\ue001", "\ue002", "\ue003", "\ue004"  # stand for the turns' texts


@dataclass(frozen=True)
class Turns:
    """What a chat template writes around each turn, and the system message that it uses by itself."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    default_system: str = ""

    def prompt(self, turns: Sequence[tuple[str, str]]) -> str:
        """The prompt of (role, text), as the template in Ollama's language gives it."""
        around = {"system": self.system, "user": self.user, "assistant": self.assistant}
        if self.default_system and turns[0][0] != "system":
            turns = [("system", self.default_system), *turns]
        return "".join(around[role][0] + text + around[role][1] for role, text in turns) + self.assistant[0]

    def in_ollamas_language(self) -> str:
        system, user, assistant = (
            f"{before}{{{{ .{name} }}}}{after}"
            for name, (before, after) in (
                ("System", self.system),
                ("Prompt", self.user),
                ("Response", self.assistant),
            )
        )
        return f"{{{{ if .System }}}}{system}{{{{ end }}}}{{{{ if .Prompt }}}}{user}{{{{ end }}}}{assistant}"


def turns_of(render: Render, opening: str) -> Turns | None:
    """Found by rendering turns that are known, and proven on others; None where no such pieces make up the template.

    `opening` is what begins every prompt and is added by the tokenizer.
    """
    try:
        turns = _found(render, opening)
        return turns if turns and all(_same(turns, render, opening, talk) for talk in _TALKS) else None
    except (TemplateError, ValueError, TypeError):
        return None


_TALKS: tuple[list[tuple[str, str]], ...] = (
    [("user", "Hi there.")],
    [("system", "Be brief."), ("user", "你好")],
    [("user", "One"), ("assistant", "Two"), ("user", "Three"), ("assistant", "Four"), ("user", "Five")],
)


def _same(turns: Turns, render: Render, opening: str, talk: list[tuple[str, str]]) -> bool:
    rendered = render([{"role": role, "content": text} for role, text in talk])
    return rendered.removeprefix(opening) == turns.prompt(talk)


def _found(render: Render, opening: str) -> Turns | None:
    marks = (("system", _SYSTEM), ("user", _ASKED), ("assistant", _SAID), ("user", _AGAIN))
    whole = render([{"role": role, "content": mark} for role, mark in marks]).removeprefix(opening)
    pieces: list[str] = []
    for _, mark in marks:
        piece, found, whole = whole.partition(mark)
        if not found:
            return None
        pieces.append(piece)
    before_system, after_system, after_asked, after_said = pieces
    alone = render([{"role": "user", "content": _ASKED}]).removeprefix(opening).partition(_ASKED)[0]
    has_default = not after_system.endswith(alone)
    user_begins = _common_end(after_system, after_said) if has_default else alone
    system = (before_system, after_system.removesuffix(user_begins))
    default = alone.removesuffix(user_begins).removeprefix(system[0]).removesuffix(system[1]) if has_default else ""
    # what ends a question opens the answer just as well
    assistant = (after_asked, after_said.removesuffix(user_begins))
    if whole != after_asked or any(mark in "".join((*pieces, default)) for mark in ("{{", '"""')):
        return None
    return Turns(system, (user_begins, ""), assistant, default)


def _common_end(one: str, other: str) -> str:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return one[len(one) - sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]


def modelfile(gguf: str, turns: Turns | None, stops: Sequence[str], sampling: SamplingDefaults) -> str:
    """The text for `ollama create NAME -f Modelfile`, run beside the file `gguf`."""
    lines = [f"FROM ./{gguf}"]
    if turns is None:
        lines.append("# No template of Ollama's is equal to this model's own, which Ollama finds in the GGUF file.")
    else:
        lines.append(f'TEMPLATE """{turns.in_ollamas_language()}"""')
        if turns.default_system:
            lines.append(f'SYSTEM """{turns.default_system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    values = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
    }
    return "\n".join([*lines, *(f"PARAMETER {name} {value:g}" for name, value in values.items())]) + "\n"
