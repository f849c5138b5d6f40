"""Parse code calls out of model replies (InternLM's format, fenced Python); chosen by the chat template.

InternLM 2 and 3 were taught a format of their own. Every other chat model is told to write a fenced block of Python and
gets the output in a message of the user's. Both are Lagent parsers, so Lagent's agent and aggregator work with either.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lagent.agents.aggregator import InternLMToolAggregator
from lagent.prompts.parsers import InterpreterParser, ToolParser, ToolStatusCode

from app.agent.replies import Reply, parse_reply
from app.agent.sandbox.libraries import installed
from app.agent.tools import Tool, instruction

_ACTION, _ACTION_END = "<|action_start|>", "<|action_end|>"
_INTERPRETER = "<|interpreter|>"
_SPECIAL = re.compile(r"<\|(?:im_start|im_end|action_start|action_end|interpreter|plugin)\|>")

_INTERNLM_INSTRUCTION = (
    "你现在可以在一个有状态的 Python 环境中运行代码（已安装 {libraries}，没有网络）。"
    "需要计算、处理数据或绘图时，请编写代码并根据运行结果作答；变量会保留到下一次运行。"
)
_PLAIN_INSTRUCTION = (
    "You solve tasks with Python. Write one short code block that prints the result:\n"
    "```python\nprint(...)\n```\n"
    "The code is run and you are shown its output. Then answer in one sentence, in the language of the task."
    " {libraries} are installed; variables are kept; there is no network."
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
    tools: tuple[str, ...] = ()

    def complete(self, text: str) -> bool:
        """Whether `text` already holds a whole call, so that what follows would be invented."""
        return parse_reply(text, self.tools).complete


class InternLMParser(InterpreterParser):
    """`thought<|action_start|><|interpreter|>\\ncode<|action_end|>`; other forms of calls are understood too."""

    def __init__(self, instruction: str, tools: tuple[str, ...]) -> None:
        # The name that its system message and its results carry in the prompt.
        super().__init__(tool_type=_INTERPRETER, template=instruction)
        self._tools = tools

    def parse_response(self, data: str) -> dict[str, Any]:
        return _parsed(self.tool_type, parse_reply(data, self._tools))


class FencedParser(ToolParser):
    """A fenced block of Python, or any other form of a call; prose before it is the thought, all after is dropped."""

    def __init__(self, instruction: str, tools: tuple[str, ...]) -> None:
        super().__init__("", instruction, begin="```python\n", end="\n```")
        self.tool_type = None  # templates of other models know no named turns
        self._tools = tools

    def parse_response(self, data: str) -> dict[str, Any]:
        return _parsed(None, parse_reply(data, self._tools))


def choose_protocol(chat_template: str, tools: Sequence[Tool] = ()) -> Protocol:
    """InternLM's format where the template knows named turns, else fenced code; `tools` are offered beside Python."""
    more = {"libraries": ", ".join(installed())}
    offered, names = _as_written(instruction(tools)), tuple(tool.name for tool in tools)
    knows_names = "<|im_start|>" in chat_template and ("' name='" in chat_template or '" name="' in chat_template)
    if knows_names or _INTERPRETER in chat_template or _ACTION in chat_template:
        parser = InternLMParser(_INTERNLM_INSTRUCTION.format(**more) + offered, names)
        return Protocol("internlm", parser, InternLMToolAggregator(), (_ACTION_END,), True, names)
    aggregator = InternLMToolAggregator("user", "Output:\n", few_shot=[_example_turns()])
    parser = FencedParser(_PLAIN_INSTRUCTION.format(**more) + offered, names)
    return Protocol("fenced", parser, aggregator, (), False, names)


def shown_text(text: str) -> str:
    """An answer without marks of the protocol."""
    return _SPECIAL.sub("", text).strip()


def drop_marks(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose user turns hold no special tokens: a visitor's text must not open a turn of its own."""
    return [
        {**message, "content": _SPECIAL.sub("", message["content"])} if message["role"] != "assistant" else message
        for message in messages
    ]


def _as_written(text: str) -> str:
    """For a template that Lagent fills in: a server's description may hold braces and control tokens."""
    return _SPECIAL.sub("", text).replace("{", "(").replace("}", ")")


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


def _parsed(tool_type: str | None, reply: Reply) -> dict[str, Any]:
    """As Lagent's agent and aggregator want it; what the model thought aloud does not go back to it."""
    called = reply.code is not None
    return {
        "tool_type": tool_type if called else None,
        "thought": reply.thought,
        "action": reply.code,
        "status": ToolStatusCode.VALID_TOOL if called else ToolStatusCode.NO_TOOL,
        "thinking": reply.thinking,
    }
