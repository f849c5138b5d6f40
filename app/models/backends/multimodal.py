"""Multimodal prompts: messages with pictures to tokens and pixels by the checkpoint's own processor."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoImageProcessor, BatchFeature, PreTrainedConfig, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from app.errors import NotAModel
from app.models.engine.prompt import EncodedPrompt, apart_from_begun, control_marks, fit_turns, tokens_after
from app.models.engine.reasoning import format_of, switch_of
from app.models.engine.response_template import with_response
from app.models.interface import Message, Sampling
from app.models.loading.errors import first_line
from app.models.loading.turn_rules import ConversationRefused, TurnRules
from app.pictures import open_picture

log = logging.getLogger(__name__)
UNSEEN = "\u200b"  # a space without width
PROCESSOR_CONFIG = "preprocessor_config.json"
TAIL = 8  # tokens at a prompt's end in which a mark of reasoning would stand


class NoProcessor(NotAModel):
    zh = "文件夹 {name} 里没有可用的图片处理器或对话模板（preprocessor_config.json 等）。请重新下载。"
    en = "The folder {name} has no usable image processor or chat template ({reason}). Download it again."


class NoVideos(dict[str, Any]):
    """In the place of a video processor, which would need torchvision: only pictures are shown here.

    A dictionary, because a processor writes itself down as JSON. SmolVLM's reads both settings for every prompt.
    """

    num_frames = None
    fps = None


class WithoutVideos:
    """Mixed into a processor's class, so that it accepts NoVideos."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> Any:
        if isinstance(argument, NoVideos):
            return NoVideos
        return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[misc]


class MultimodalPrompts:
    """As PromptBuilder, for a processor instead of a tokenizer."""

    def __init__(self, processor: Any, rules: TurnRules, limit: int) -> None:
        self._processor = processor
        self._rules = rules
        self._limit = limit
        self._reasoning = format_of(processor.chat_template)
        self._switch = switch_of(processor.chat_template)
        controls = control_marks(processor.tokenizer, processor.chat_template) | {processor.image_token}
        self._controls = re.compile("|".join(re.escape(token) for token in sorted(controls, key=len, reverse=True)))

    def encode(self, messages: Sequence[Message], thinking: bool | None = None) -> EncodedPrompt:
        """Tokens and pixels, the opening of the assistant's turn included. Raises ConversationRefused."""
        earlier, begun = apart_from_begun(messages)
        made = self._rendered([self._turn(message) for message in self._rules.mend(earlier)], thinking)
        inputs = {name: value for name, value in made.items() if name != "attention_mask"}
        tokens = inputs.pop("input_ids")[0].tolist()
        tokenizer, more, is_open = self._processor.tokenizer, self._plain(begun), False
        if self._reasoning is not None:
            text = tokenizer.decode(tokens[-TAIL:], skip_special_tokens=False)
            more = self._reasoning.ending(text, thinking, self._switch is not None) + more
            is_open = not more and self._reasoning.is_open(text)
        added = tokens_after(tokenizer, more) if more else []
        inputs = {name: _longer(value, len(tokens), len(added)) for name, value in inputs.items()}
        return EncodedPrompt(tokens + added, inputs, is_open, goes_on=bool(begun))

    def _rendered(self, turns: list[dict[str, Any]], thinking: bool | None) -> BatchFeature:
        """Raises ConversationRefused."""
        try:
            made: BatchFeature = self._processor.apply_chat_template(
                turns,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                **({self._switch: thinking} if self._switch and thinking is not None else {}),
            )
        except TemplateError as error:
            raise ConversationRefused(error) from error
        return made

    def fit(self, messages: Sequence[Message], sampling: Sampling, drop_oldest: bool) -> tuple[EncodedPrompt, int]:
        """(prompt, dropped turns); see `fit_turns`."""
        longest = sampling.longest(self._reasoning is not None)
        return fit_turns(
            lambda turns: self.encode(turns, sampling.thinking), messages, self._limit, longest, drop_oldest
        )

    def _turn(self, message: Message) -> dict[str, Any]:
        """Pictures before the words about them; a tool's output is told as the user's words."""
        role = "user" if message["role"] == "environment" else message["role"]
        shown = [{"type": "image", "image": open_picture(image)} for image in message.get("images", ())]
        content = message["content"]
        if role == "assistant" and self._reasoning is not None:
            content = self._reasoning.without_reasoning(content)
        return {"role": role, "content": [*shown, {"type": "text", "text": self._plain(content)}]}

    def _plain(self, text: str) -> str:
        """What a visitor types must not stand for a picture, or end a turn; some processors count it where they should
        not even with transformers' own sanitize_control_tokens."""
        return self._controls.sub(lambda found: f"{found[0][0]}{UNSEEN}{found[0][1:]}", text)


def _longer(value: Any, length: int, more: int) -> Any:
    """What is told of each token, such as its kind, for more tokens of text; all else as it is."""
    if getattr(value, "shape", ())[:2] != (1, length) or value.ndim != 2:
        return value
    return torch.nn.functional.pad(value, (0, more))


def is_multimodal(config: PreTrainedConfig) -> bool:
    """Whether this architecture answers about pictures."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def load_processor(folder: Path, config: PreTrainedConfig, tokenizer: Any, name: str) -> ProcessorMixin:
    """The checkpoint's own processor. Raises NoProcessor."""
    try:
        real: Any = PROCESSOR_MAPPING[type(config)]
        kind: Any = type(real.__name__, (WithoutVideos, real), {})
        written, _ = kind.get_processor_dict(folder, local_files_only=True)
        images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        parts = {"image_processor": images, "tokenizer": tokenizer, "video_processor": NoVideos()}
        processor = kind.from_args_and_dict([parts[part] for part in kind.get_attributes()], written)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        log.warning("the processor of %s cannot be used", name, exc_info=True)
        there = (folder / PROCESSOR_CONFIG).exists()
        raise NoProcessor(name=name, reason=first_line(error) if there else PROCESSOR_CONFIG) from error
    template = processor.chat_template or tokenizer.chat_template
    if not template:
        raise NoProcessor(name=name, reason="chat_template")
    processor.chat_template = with_response(template, tokenizer.response_template)
    return processor
