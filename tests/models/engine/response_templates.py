"""Response templates as checkpoints bear them in tokenizer_config.json."""

from typing import Any

ANCHOR = "<|im_start|>assistant\n"
THINKING = {"open": "<think>", "close": "</think>", "content": "text"}
TEXT = {"close": "<|im_end|>", "content": "text"}
WHOLE = {"type": "function", "function": "{content}"}
NAMED = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}


def of(calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    read = {"thinking": THINKING, "tool_calls": {"repeats": True, "content": "json", **calls}, "content": TEXT}
    return {"defaults": {"role": "assistant"}, "start_anchor": ANCHOR, "fields": {**read, **fields}}


QWEN = of({"open_pattern": r"\s*<tool_call>", "close": "</tool_call>", "transform": WHOLE})
MISTRAL = of(
    {
        "open_pattern": r"\[TOOL_CALLS\]\s*",
        "close": "</s>",
        "repeats": False,
        "transform_each": True,
        "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{arguments}"}},
    }
)
LATER_MISTRAL = of(
    {
        "open_pattern": r"\[TOOL_CALLS\](?P<name>\w+)\[ARGS\]",
        "close_pattern": "(?=\\[TOOL_CALLS\\])|</s>",
        "transform": NAMED,
    }
)
QWEN_3_5 = of(
    {
        "open_pattern": r"\s*<tool_call>\s*<function=(?P<name>[^>\n]+)>",
        "close_pattern": r"</function>\s*</tool_call>",
        "content": "xml-inline",
        "content_args": {"tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>"},
        "transform": NAMED,
    }
)
GEMMA_4 = of(
    {
        "open_pattern": r"<\|tool_call>call:(?P<name>\w+)",
        "close": "<tool_call|>",
        "content_args": {"unquoted_keys": True, "string_delims": [['<|"|>', '<|"|>']]},
        "transform": NAMED,
    },
    thinking={"open": "<|channel>thought\n", "close": "<channel|>", "content": "text"},
)
