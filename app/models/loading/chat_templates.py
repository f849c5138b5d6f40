"""Chat templates: the checkpoint's own, or ours where it has none, and which turns it takes."""

import logging
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from app.errors import NotAModel
from app.models.catalog.known_models import ChatFormat
from app.models.engine.response_template import with_response
from app.models.loading.errors import first_line
from app.models.loading.turn_rules import TurnRules, probe

_INTERNLM = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|Bot|>:' + message['content'] + '<eoa>\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|User|>:' + message['content'] + '<eoh>\n' }}"
    "{% else %}{{ '<|System|>:' + message['content'] + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|Bot|>:' }}{% endif %}"
)
# `name` marks the turns of a tool: system name=<|interpreter|>, environment name=<|plugin|>.
_INTERNLM2 = (
    "{% macro functions() %}{% if tools %}{{ '<|im_start|>system name=<|plugin|>\n'"
    " + (tools | map(attribute='function') | list | tojson) + '<|im_end|>\n' }}{% endif %}{% endmacro %}"
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}{{ functions() }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + ('environment' if message['role'] == 'tool' else message['role']) }}"
    "{% set name = '<|plugin|>' if message['role'] == 'tool' else message['name'] %}"
    "{% if name %}{{ ' name=' + name }}{% endif %}{{ '\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}{% set function = call['function'] %}"
    "{{ '<|action_start|><|plugin|>\n' }}"
    "{{ {'name': function['name'], 'parameters': function['arguments']} | tojson }}"
    "{{ '<|action_end|>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}"
    "{% if loop.first and message['role'] == 'system' %}{{ functions() }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# For models that were never taught to chat.
_PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
PLAIN_ENDS = ("\n\nuser:",)  # where such a model would go on with our part
TEMPLATES: dict[ChatFormat, str] = {"": _PLAIN, "internlm": _INTERNLM, "internlm2": _INTERNLM2}
FORMATS: dict[str, ChatFormat] = {"internlm": "internlm", "internlm2": "internlm2", "internlm3": "internlm2"}
TURN_ENDS = ("<|im_end|>", "<eoa>", "<|eot_id|>", "<end_of_turn>", "<|end|>")

log = logging.getLogger(__name__)


class BrokenTemplate(NotAModel):
    zh = "模型 {name} 的对话模板（chat_template）有错误，无法使用（详情见服务器日志）。请换一个版本，或修正模板。"
    en = (
        "The chat template of the model {name} cannot be used: {reason}. Choose another version, or mend the template"
        " in its tokenizer_config.json."
    )


def chat_template(tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, name: str) -> str:
    """The checkpoint's own template, or ours for `chat_format`. Raises BrokenTemplate.

    Ours is also taken where it says the same as the checkpoint's in a plain conversation: it knows named turns.
    """
    ours = TEMPLATES[chat_format]
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = _of_several(tokenizer, own)
    if not own:
        return ours
    if chat_format and _conversation(tokenizer, own) == _conversation(tokenizer, ours):
        return ours
    if turn_rules(tokenizer, own) is None:
        reason = _fault(tokenizer, own)
        log.warning("the chat template of %s cannot be used: %s", name, reason)
        raise BrokenTemplate(name=name, reason=reason)
    return with_response(str(own), getattr(tokenizer, "response_template", None))


def _of_several(tokenizer: PreTrainedTokenizerBase, named: Mapping[str, str]) -> str | None:
    """The default, and where tools are given the one for them."""
    default, for_tools = named.get("default") or next(iter(named.values()), None), named.get("tool_use")
    if not default or not for_tools or for_tools == default:
        return default
    parts = ("{% if tools %}", for_tools.removesuffix("\n"), "{% else %}", default.removesuffix("\n"), "{% endif %}")
    both = "{{ '' }}".join(parts)  # which keeps jinja from taking the blanks beside a statement
    return both if _conversation(tokenizer, both) == _conversation(tokenizer, default) else default


def _fault(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Why a template refuses a single user turn."""
    try:
        _render(tokenizer, template, [{"role": "user", "content": "A"}])
    except Exception as error:  # whatever its author or jinja makes of it
        return first_line(error)
    return "it leaves out what the user says"


def turn_rules(tokenizer: PreTrainedTokenizerBase, template: str) -> TurnRules | None:
    """What the template takes; None where it refuses even a single user turn."""
    return probe(lambda turns: _render(tokenizer, template, turns))


def _conversation(tokenizer: PreTrainedTokenizerBase, template: str) -> str | None:
    turns = [("user", "A"), ("assistant", "B"), ("user", "C")]
    try:
        return _render(tokenizer, template, [{"role": role, "content": content} for role, content in turns])
    except Exception:  # as above
        return None


def _render(tokenizer: PreTrainedTokenizerBase, template: str, turns: list[Any]) -> str:
    return str(tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True))
