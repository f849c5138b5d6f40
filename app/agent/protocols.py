"""Parse code calls out of model replies (InternLM's format, fenced Python); chosen by the chat template.

InternLM 2 and 3 were taught a format of their own. Every other chat model writes a fenced block of Python and gets
the output in a message of the user's. Both are Lagent parsers, so Lagent's agent and aggregator work with either.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lagent.agents.aggregator import InternLMToolAggregator
from lagent.prompts.parsers import InterpreterParser, ToolParser, ToolStatusCode

_ACTION, _ACTION_END = "<|action_start|>", "<|action_end|>"
_INTERPRETER, _PLUGIN = "<|interpreter|>", "<|plugin|>"
_SPECIAL = re.compile(r"<\|(?:im_start|im_end|action_start|action_end|interpreter|plugin)\|>")
_FENCED = re.compile(
    r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE | re.IGNORECASE
)
_CLOSED = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n.*?^[ \t]*```", re.DOTALL | re.MULTILINE | re.IGNORECASE)

_INTERNLM_INSTRUCTION = (
    "你现在可以在一个有状态的 Python 环境中运行代码（已安装 numpy、sympy、pandas、matplotlib，没有网络）。"
    "需要计算、处理数据或绘图时，请编写代码并根据运行结果作答；变量会保留到下一次运行。"
)
_PLAIN_INSTRUCTION = (
    "You solve tasks with Python. Write one short code block that prints the result:\n"
    "```python\nprint(...)\n```\n"
    "The code is run and you are shown its output. Then answer in one sentence, in the language of the task."
    " numpy, sympy, pandas and matplotlib are installed; variables are kept; there is no network."
)
# (task, code, output): for models too small to follow an instruction, one of each usual kind.
_PLAIN_EXAMPLES = (
    ("What is 17 times 23?", "print(17 * 23)", "391"),
    ("Add up all numbers from 5 to 50.", "print(sum(range(5, 51)))", "1265"),
    ("Count the letters of banana.", "print(len('banana'))", "6"),
    ("Reverse the word hello.", "print('hello'[::-1])", "olleh"),
    ("How often does a occur in banana?", "print('banana'.count('a'))", "3"),
    (
        "How long is it from 2023-05-01 until 2023-06-10, in days?",
        "from datetime import date\nprint((date(2023, 6, 10) - date(2023, 5, 1)).days)",
        "40",
    ),
    (
        "Which date is 30 days later than 2022-03-05?",
        "from datetime import date, timedelta\nprint(date(2022, 3, 5) + timedelta(days=30))",
        "2022-04-04",
    ),
    ("Find the smallest of [8, 3, 5].", "print(min([8, 3, 5]))", "3"),
)


@dataclass(frozen=True)
class Protocol:
    """A parser and an aggregator for Lagent's agent, and where the engine shall stop."""

    name: str
    parser: "InternLMParser | FencedParser"
    aggregator: InternLMToolAggregator
    stop: tuple[str, ...]
    keep_special_tokens: bool

    def complete(self, text: str) -> bool:
        """Whether `text` already holds a whole call, so that what follows would be invented."""
        return self.parser.is_complete(text)


class InternLMParser(InterpreterParser):
    """`thought<|action_start|><|interpreter|>\\ncode<|action_end|>`, its plugin form understood too."""

    def __init__(self) -> None:
        # The name that its system message and its results carry in the prompt.
        super().__init__(tool_type=_INTERPRETER, template=_INTERNLM_INSTRUCTION)

    def parse_response(self, data: str) -> dict[str, Any]:
        thought, began, rest = data.partition(_ACTION)
        if not began:
            return _no_tool(_SPECIAL.sub("", data))
        body = rest.split(_ACTION_END)[0]
        code = _code_of_plugin(body) if _PLUGIN in body else _SPECIAL.sub("", body)
        return _call(self.tool_type, _SPECIAL.sub("", thought), _unfenced(code))

    def is_complete(self, text: str) -> bool:
        return _ACTION_END in text


class FencedParser(ToolParser):
    """A fenced block of Python; prose before it is the thought, all after it is dropped."""

    def __init__(self) -> None:
        super().__init__("", _PLAIN_INSTRUCTION, begin="```python\n", end="\n```")
        self.tool_type = None  # templates of other models know no named turns

    def parse_response(self, data: str) -> dict[str, Any]:
        found = _FENCED.search(data)
        return _no_tool(data) if found is None else _call(None, data[: found.start()], found.group(1))

    def is_complete(self, text: str) -> bool:
        return _CLOSED.search(text) is not None


def choose_protocol(chat_template: str) -> Protocol:
    """InternLM's format where the template knows named turns, else fenced code."""
    knows_names = "<|im_start|>" in chat_template and ("' name='" in chat_template or '" name="' in chat_template)
    if knows_names or _INTERPRETER in chat_template or _ACTION in chat_template:
        return Protocol("internlm", InternLMParser(), InternLMToolAggregator(), (_ACTION_END,), True)
    aggregator = InternLMToolAggregator("user", "Output:\n", few_shot=[_example_turns()])
    return Protocol("fenced", FencedParser(), aggregator, (), False)


def shown_text(text: str) -> str:
    """An answer without marks of the protocol."""
    return _SPECIAL.sub("", text).strip()


def drop_marks(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose user turns hold no special tokens: a visitor's text must not open a turn of its own."""
    return [
        {**message, "content": _SPECIAL.sub("", message["content"])} if message["role"] != "assistant" else message
        for message in messages
    ]


def _example_turns() -> list[dict[str, str]]:
    turns = []
    for task, code, output in _PLAIN_EXAMPLES:
        turns += [
            {"role": "user", "content": task},
            {"role": "assistant", "content": f"```python\n{code}\n```"},
            {"role": "user", "content": f"Output:\n{output}"},
            {"role": "assistant", "content": f"The answer is {output}."},
        ]
    return turns


def _no_tool(text: str) -> dict[str, Any]:
    return {"tool_type": None, "thought": text, "action": None, "status": ToolStatusCode.NO_TOOL}


def _call(tool_type: str | None, thought: str, code: str) -> dict[str, Any]:
    return {
        "tool_type": tool_type,
        "thought": thought,
        "action": code.strip("\r\n"),
        "status": ToolStatusCode.VALID_TOOL,
    }


def _code_of_plugin(body: str) -> str:
    """The code in a plugin call, or code that says there is no such plugin."""
    text = body.replace(_PLUGIN, "").strip()
    try:
        parameters = json.loads(text)["parameters"]
        return str(next(parameters[key] for key in ("command", "code") if isinstance(parameters.get(key), str)))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return "raise NameError('there are no plugins here, only Python code')"


def _unfenced(code: str) -> str:
    stripped = code.strip()
    whole = _FENCED.fullmatch(stripped)
    return whole.group(1) if whole else code
