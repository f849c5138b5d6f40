"""How a conversation becomes a prompt, where a checkpoint does not say it itself."""

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from app.models.catalog.known_models import ChatFormat

_INTERNLM = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|Bot|>:' + message['content'] + '<eoa>\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|User|>:' + message['content'] + '<eoh>\n' }}"
    "{% else %}{{ '<|System|>:' + message['content'] + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|Bot|>:' }}{% endif %}"
)
# `name` marks the turns of a tool: system name=<|interpreter|>, environment name=<|plugin|>.
_INTERNLM2 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] }}{% if message['name'] %}{{ ' name=' + message['name'] }}{% endif %}"
    "{{ '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# For models that were never taught to chat.
_PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
TEMPLATES: dict[ChatFormat, str] = {"": _PLAIN, "internlm": _INTERNLM, "internlm2": _INTERNLM2}
FORMATS: dict[str, ChatFormat] = {"internlm": "internlm", "internlm2": "internlm2", "internlm3": "internlm2"}
TURN_ENDS = ("<|im_end|>", "<eoa>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


def chat_template(tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat) -> str:
    """The checkpoint's own template, or ours for `chat_format`.

    Ours is also taken where it says the same as the checkpoint's in a plain conversation: it knows named turns.
    """
    ours = TEMPLATES[chat_format]
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    rendered = _render(tokenizer, own) if own else None
    if own is None or rendered is None:
        return ours
    return ours if chat_format and rendered == _render(tokenizer, ours) else own


def _render(tokenizer: PreTrainedTokenizerBase, template: str) -> str | None:
    turns = [("user", "A"), ("assistant", "B"), ("user", "C")]
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, TypeError, ValueError, KeyError):
        return None
    return str(text)
