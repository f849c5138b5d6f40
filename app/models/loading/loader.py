"""From a folder to a model in memory, never running code that came with the files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.quantization_config import QuantizationConfigMixin

from app.errors import NotAModel
from app.models.backends.multimodal import is_multimodal, load_processor
from app.models.catalog.known_models import ModelCard
from app.models.interface import ReportProgress
from app.models.loading import internlm
from app.models.loading.awq_gptq import packing_of, unpacked
from app.models.loading.chat_templates import FORMATS, TURN_ENDS, chat_template
from app.models.loading.checkpoint import Weight, open_weights, read_config
from app.models.loading.cpu_quantization import narrow_config
from app.models.loading.internlm_tokenizer import load_tokenizer


class UnknownArchitecture(NotAModel):
    zh = "模型 {name} 的结构 {kind} 需要运行它自带的代码，本程序不支持。请换一个模型。"
    en = "The model {name} ({kind}) needs code of its own to run, which is not supported. Choose another model."


class WeightsDoNotMatch(NotAModel):
    zh = "模型 {name} 的权重与 config.json 不符，例如 {example}。请重新下载。"
    en = "The weights of the model {name} do not match its config.json, e.g. {example}. Download it again."


class NoTokenizer(NotAModel):
    zh = "文件夹 {name} 里没有可用的分词器（tokenizer.json 或 tokenizer.model）。请换一个文件夹。"
    en = "The folder {name} has no usable tokenizer (tokenizer.json or tokenizer.model). Choose another."


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run. `mib` is what its weights hold on the device; `processor` is there if it sees."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat_template: str
    stop_token_ids: tuple[int, ...]
    context_tokens: int
    mib: int
    processor: Any = None


def load(
    folder: Path, card: ModelCard, device: str, dtype: str, quantise: str | None, on_progress: ReportProgress
) -> LoadedModel:
    """Load the files in `folder`. `dtype` is torch's name or "auto", `quantise` None, "4bit" or "8bit"."""
    on_progress(0.0, card.name)
    raw = read_config(folder, card.name)
    config, weights = _describe(raw, folder, card, on_progress)
    tokenizer = _tokenizer(raw, folder, card)
    model = _build(config, weights, card, device, _dtype(dtype, device), quantise)
    model.generation_config = _generation_config(folder, model)
    processor = load_processor(folder, config, tokenizer, card.name) if is_multimodal(config) else None
    if processor is None:
        template = chat_template(tokenizer, FORMATS.get(raw["model_type"]) or card.chat_format)
    else:
        template = str(processor.chat_template)
    on_progress(1.0, card.name)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        chat_template=template,
        stop_token_ids=_stop_ids(card, tokenizer, model, template),
        context_tokens=_context_tokens(config, card),
        mib=round(model.get_memory_footprint() / 2**20),
        processor=processor,
    )


def tokenizer_of(folder: Path, card: ModelCard) -> PreTrainedTokenizerBase:
    """The tokenizer alone, with the chat template that the model is asked by."""
    raw = read_config(folder, card.name)
    tokenizer = _tokenizer(raw, folder, card)
    tokenizer.chat_template = chat_template(tokenizer, FORMATS.get(raw["model_type"]) or card.chat_format)
    return tokenizer


def _describe(
    raw: dict[str, Any], folder: Path, card: ModelCard, on_progress: ReportProgress
) -> tuple[PreTrainedConfig, dict[str, Weight]]:
    weights = open_weights(folder, card.name, on_progress)
    packing = packing_of(raw, card.name)
    if packing is not None:
        weights = unpacked(weights, packing)
    try:
        if raw.get("model_type") in internlm.KINDS:
            return internlm.llama_config(raw, card.name), internlm.llama_weights(raw, weights)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if packing is not None:
            del config.quantization_config
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise UnknownArchitecture(name=card.name, kind=raw.get("model_type", "?")) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not is_multimodal(config):
        raise UnknownArchitecture(name=card.name, kind=config.model_type)
    return config, weights


def _build(
    config: PreTrainedConfig,
    weights: dict[str, Weight],
    card: ModelCard,
    device: str,
    dtype: torch.dtype,
    quantise: str | None,
) -> PreTrainedModel:
    # Our own progress is shown instead; the bars would fill the log.
    transformers.utils.logging.disable_progress_bar()
    known = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if is_multimodal(config) else MODEL_FOR_CAUSAL_LM_MAPPING
    architecture: Any = known[type(config)]
    try:
        model, report = architecture.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            device_map={"": device},
            quantization_config=_quantisation(quantise, dtype, device),
            output_loading_info=True,
        )
    except RuntimeError as error:
        if "size mismatch" not in str(error) and "mismatch" not in str(error):
            raise
        raise WeightsDoNotMatch(name=card.name, example=str(error).strip().splitlines()[-1][:200]) from error
    # What is missing would be filled with random numbers and talk nonsense.
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsDoNotMatch(name=card.name, example=missing[0])
    return model


def _dtype(name: str, device: str) -> torch.dtype:
    if name != "auto":
        return getattr(torch, name)
    if device.startswith("cuda") and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.float16 if device == "mps" else torch.bfloat16


def _quantisation(quantise: str | None, dtype: torch.dtype, device: str) -> QuantizationConfigMixin | None:
    if quantise and device == "cpu":
        return narrow_config(8 if quantise == "8bit" else 4)
    if quantise == "4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if quantise == "8bit" else None


def _tokenizer(raw: dict[str, Any], folder: Path, card: ModelCard) -> PreTrainedTokenizerBase:
    try:
        if raw.get("model_type") in FORMATS and (folder / "tokenizer.model").exists():
            return load_tokenizer(folder)
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise NoTokenizer(name=card.name) from error


def _generation_config(folder: Path, model: PreTrainedModel) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        return model.generation_config


def _stop_ids(
    card: ModelCard, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, template: str
) -> tuple[int, ...]:
    vocabulary = tokenizer.get_vocab()
    ends = [*card.stop_tokens, *(token for token in TURN_ENDS if token in template)]
    found = {vocabulary[token] for token in ends if token in vocabulary}
    for ids in (tokenizer.eos_token_id, model.generation_config.eos_token_id):
        found.update([ids] if isinstance(ids, int) else ids or [])
    return tuple(sorted(found))


def _context_tokens(config: PreTrainedConfig, card: ModelCard) -> int:
    text: Any = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", 0) or card.context_tokens)
