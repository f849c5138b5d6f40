"""Fenced blocks of Markdown in a model's reply: their language, and their code without what surrounds it."""

import ast
import codeop
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from app.agent.calls import PYTHON

_FENCE = re.compile(
    r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})[ \t]*\{?[ \t]*\.?(?:code-cell\}?[ \t]+)?"
    r"(?P<language>[\w+#-]*(?:\.\d+)*)\}?[ \t]*(?P<rest>.*)$"
)
_PYTHON = re.compile(r"(?:i?python|py|pycon)[\d.]*|python-repl")
# What may follow the language of a fence: attributes, a word, or a file's name.
_INFO = re.compile(
    r"\s*(?:(?:[\w-]+=(?:\"[^\"]*\"|'[^']*'|\{[^}]*\}|\d+)|\{[^}]*\}|\d)\s*)+|[A-Za-z]+\s*|[:\w./-]*\.py\s*"
)
_FILE = re.compile(r"[:\w./-]*\.py\s*")
_LANGUAGE_LINE = re.compile(r"\A(?:python3?|py)\n(?=\S)", re.IGNORECASE)
_PROMPTS = (">>> ", "... ")
_PROMPT = re.compile(r"^(?:>>> |In ?\[\d+\]: )", re.MULTILINE)
_FENCE_LINE = re.compile(r"^(?:`{3,}|~{3,})", re.MULTILINE)
_LINE_NUMBER = re.compile(r"^ *\d+[:.|)]? ?", re.MULTILINE)
_ASCII = str.maketrans("“”„‘’（），：；［］｛｝＝", '"""\'\'(),:;[]{}=')


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    closed: bool
    start: int


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks in order, the last perhaps without an end; those in lists lose their indentation.

    A fence within a string of Python ends no block; where no later one makes it whole, the code up to there stays.
    """
    place, opened, start, gathered, cut = 0, None, 0, list[str](), None
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line.rstrip("\r\n"))
        if opened is None:
            if found:
                if inline := _in_one_line(found, place):
                    yield inline
                elif "`" not in found["rest"]:
                    opened, start = found, place + len(found["before"])
                    first = is_python(found["language"]) and _begins_code(found["rest"])
                    gathered = [found["rest"] + "\n"] if first else []
        elif found and found["fence"].startswith(opened["fence"]) and not (found["language"] or found["rest"].strip()):
            block = _block(opened, [*gathered, found["before"]], True, start)
            if is_python(block.language) and (cut or _within_string(block.code)) and not parses(block.code):
                cut = cut or replace(block, closed=False)
                gathered.append(line)
            else:
                yield block
                opened = cut = None
        else:
            gathered.append(line)
        place += len(line)
    if opened is not None:
        block = _block(opened, gathered, False, start)
        yield cut if cut and not parses(block.code) else block


def is_python(language: str) -> bool:
    return language.lower() in PYTHON or _PYTHON.fullmatch(language.lower()) is not None


def _begins_code(rest: str) -> bool:
    """Whether what follows the language is code, perhaps its first line only, and not about the block."""
    if not rest.strip() or _INFO.fullmatch(rest):
        return False
    try:
        codeop.compile_command(rest)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return parses(rest)  # such as a lone `await`
    return True


def _in_one_line(found: re.Match[str], place: int) -> Block | None:
    """```python print(1)``` on a line of its own."""
    code, fence, after = found["rest"].partition(found["fence"])
    if not fence or after.strip():
        return None
    language = found["language"].lower()
    if not is_python(language):
        code, language = f"{found['language']}{found['rest'].partition(found['fence'])[0]}", ""
    return Block(language, code.strip(), True, place + len(found["before"]))


def _block(opened: re.Match[str], lines: Iterable[str], closed: bool, start: int) -> Block:
    language, quoted = opened["language"].lower(), opened["before"].lstrip().startswith(">")
    code = "".join(re.sub(r"^\s*> ?", "", line) for line in lines) if quoted else "".join(lines)
    return Block("python" if _FILE.fullmatch(opened["rest"]) else language, plain(code), closed, start)


def plain(code: str) -> str:
    """Without a fence of its own, indentation in common, and the prompts of an interactive session."""
    inner = next((block.code for block in blocks(code)), None) if code.lstrip().startswith("```") else None
    code = textwrap.dedent((inner if inner is not None else code).expandtabs(4).replace("\r\n", "\n")).strip("\n")
    code = _LANGUAGE_LINE.sub("", code.replace("\xa0", " "))
    if _PROMPT.match(code):
        return "\n".join(line[4:] for line in _PROMPT.sub(">>> ", code).splitlines() if line.startswith(_PROMPTS))
    return _mended(code.rstrip())


def _mended(code: str) -> str:
    """Code with typographic quotes, full-width signs, the numbers of its lines or words behind the closing fence,
    where it is code without them."""
    ways = (code, code.translate(_ASCII), _LINE_NUMBER.sub("", code), _FENCE_LINE.split(code)[0].rstrip())
    return next((way for way in ways if parses(way)), code)


def parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _within_string(code: str) -> bool:
    """Whether code ends before a triple-quoted string of it does."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        return error.msg.startswith("unterminated triple-quoted")
    except (ValueError, RecursionError, MemoryError):
        return False
    return False
