"""Model loader: a checkpoint folder to a model in memory, never running code that came with the files."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.quantization_config import QuantizationConfigMixin

from app.models.backends.multimodal import is_multimodal, load_processor
from app.models.catalog.known_models import ModelCard
from app.models.engine.prompt import PromptBuilder
from app.models.engine.reasoning import CHANNELS, format_of
from app.models.interface import ReportProgress, SamplingDefaults
from app.models.loading import internlm
from app.models.loading.awq_gptq import packing_of, refuse_unknown_quantisation, unpacked
from app.models.loading.chat_templates import FORMATS, TURN_ENDS, chat_template, turn_rules
from app.models.loading.checkpoint import Weight, is_scaled, is_unpacked, open_weights, quantisation, read_config
from app.models.loading.cpu_quantization import narrow_config
from app.models.loading.errors import (
    CannotBeLoaded,
    NotAChatModel,
    NoTokenizer,
    PythonTokenizer,
    TokenizerDoesNotMatch,
    UnknownArchitecture,
    UnusableConfig,
    WeightsDoNotMatch,
    last_line,
)
from app.models.loading.generation_defaults import only_tokens, read_generation_config, sampling_defaults, token_ids
from app.models.loading.internlm_tokenizer import load_tokenizer
from app.models.loading.scaled_weights import unscaled
from app.models.loading.turn_rules import TurnRules, probe

log = logging.getLogger(__name__)
UNSTATED_CONTEXT_TOKENS = 2048  # for configs that name no length, such as those of Bloom and Mamba
LENGTHS = ("max_position_embeddings", "max_sequence_length", "max_seq_len", "seq_length", "n_positions", "n_ctx")
WRITERS = ("CausalLM", "LMHeadModel", "ForConditionalGeneration", "HeadModel")  # how their classes end
ENCODERS = frozenset(
    (
        "bert",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "mobilebert",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    )
)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run. `mib` is what its weights hold on the device; `processor` is there if it is multimodal."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat_template: str
    stop_token_ids: tuple[int, ...]
    context_tokens: int
    mib: int
    processor: Any = None
    turn_rules: TurnRules = field(default_factory=TurnRules)
    sampling_defaults: SamplingDefaults = field(default_factory=SamplingDefaults)

    @property
    def embeddings(self) -> int:
        """How many token ids the model knows."""
        table: Any = self.model.get_input_embeddings()
        return int(table.weight.shape[0])


def load(
    folder: Path, card: ModelCard, device: str, dtype: str, quantise: str | None, on_progress: ReportProgress
) -> LoadedModel:
    """Load the files in `folder`. `dtype` is torch's name or "auto", `quantise` None, "4bit" or "8bit"."""
    on_progress(0.0, card.name)
    raw = read_config(folder, card.name)
    config, weights = _describe(raw, folder, card, on_progress)
    tokenizer = _tokenizer(raw, folder, card)
    processor = load_processor(folder, config, tokenizer, card.name) if is_multimodal(config) else None
    template: Any = processor.chat_template if processor else _template(tokenizer, raw, card)
    packed = getattr(config, "quantization_config", None)  # by a library that is there: not packed a second time
    model = _build(config, weights, card, device, choose_dtype(dtype, device), None if packed else quantise)
    generation = read_generation_config(folder)
    stops = _stop_ids(card, tokenizer, model, generation, template)
    model.generation_config = only_tokens(generation)
    on_progress(1.0, card.name)
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        chat_template=template,
        stop_token_ids=stops,
        context_tokens=_context_tokens(config, card),
        mib=round(model.get_memory_footprint() / 2**20),
        processor=processor,
        turn_rules=_turn_rules(tokenizer, processor, template),
        sampling_defaults=sampling_defaults(generation),
    )
    _check_vocabulary(loaded, card)
    return loaded


def _turn_rules(tokenizer: PreTrainedTokenizerBase, processor: Any, template: str) -> TurnRules:
    if processor is None:
        return turn_rules(tokenizer, template) or TurnRules()
    # A processor is always given parts, so that is what its template is tried with.
    return probe(lambda turns: _processed(processor, turns)) or TurnRules()


def _processed(processor: Any, turns: list[Any]) -> str:
    parts = [{**turn, "content": [{"type": "text", "text": str(turn["content"])}]} for turn in turns]
    return str(processor.apply_chat_template(parts, add_generation_prompt=True, tokenize=False))


def tokenizer_of(folder: Path, card: ModelCard) -> PreTrainedTokenizerBase:
    """The tokenizer alone, with the chat template that the model is asked by."""
    raw = read_config(folder, card.name)
    tokenizer = _tokenizer(raw, folder, card)
    tokenizer.chat_template = _template(tokenizer, raw, card)
    return tokenizer


def _template(tokenizer: PreTrainedTokenizerBase, raw: dict[str, Any], card: ModelCard) -> str:
    return chat_template(tokenizer, FORMATS.get(str(raw.get("model_type"))) or card.chat_format, card.name)


def _describe(
    raw: dict[str, Any], folder: Path, card: ModelCard, on_progress: ReportProgress
) -> tuple[PreTrainedConfig, dict[str, Weight]]:
    weights = open_weights(folder, card.name, on_progress)
    kind, about = str(raw.get("model_type", "?")), quantisation(raw)
    refuse_unknown_quantisation(raw, card.name)
    if (packing := packing_of(raw, card.name)) is not None:
        weights = unpacked(weights, packing)
    elif is_scaled(about):
        weights = unscaled(weights, about)
    if kind in internlm.KINDS:
        return internlm.llama_config(raw, card.name), internlm.llama_weights(raw, weights)
    if kind not in CONFIG_MAPPING:
        raise UnknownArchitecture(name=card.name, kind=kind)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # what transformers raises for values that it does not know is of every kind
        log.warning("the config.json of %s cannot be used", card.name, exc_info=True)
        raise UnusableConfig(name=card.name, reason=last_line(error)) from error
    if is_unpacked(raw) or (not about and hasattr(config, "quantization_config")):
        del config.quantization_config
    reads_first = config.is_encoder_decoder or type(config).is_encoder_decoder  # by its files, or by its kind
    can_chat = is_multimodal(config) or (type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not reads_first)
    if not can_chat or not _writes_text(raw):
        raise NotAChatModel(name=card.name, kind=(raw.get("architectures") or [kind])[0])
    return config, weights


def _writes_text(raw: dict[str, Any]) -> bool:
    """Whether the checkpoint's own class goes on with a text; an encoder or a reward model has another head."""
    names = raw.get("architectures")
    if not isinstance(names, list) or not names:
        return True
    return any(str(name).endswith(WRITERS) for name in names) and raw.get("model_type") not in ENCODERS


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
            ignore_mismatched_sizes=True,  # told below, by name
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # transformers has no kind of its own for what it cannot load
        log.warning("%s could not be loaded", card.name, exc_info=True)
        raise CannotBeLoaded(name=card.name, example=last_line(error)) from None
    # What is missing would be filled with random numbers and talk nonsense.
    unfit = sorted({*report["missing_keys"], *(str(key) for key, *_ in report["mismatched_keys"])})
    if unfit:
        raise WeightsDoNotMatch(name=card.name, example=unfit[0])
    return model


def choose_dtype(name: str, device: str) -> torch.dtype:
    """The number format of the weights: `name` is torch's, or "auto"."""
    if name != "auto":
        return getattr(torch, name)
    # A card that only imitates bfloat16 says that it supports it unless asked for the real thing.
    if device.startswith("cuda") and not torch.cuda.is_bf16_supported(including_emulation=False):
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
    # Without the threshold for outliers: it waits for the device in each layer, keeps steps from being captured, and
    # lets one request's values change another's answer.
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0) if quantise == "8bit" else None


def _tokenizer(raw: dict[str, Any], folder: Path, card: ModelCard) -> PreTrainedTokenizerBase:
    try:
        if raw.get("model_type") in FORMATS and (folder / "tokenizer.model").exists():
            return load_tokenizer(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as above
        raise NoTokenizer(name=card.name) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise PythonTokenizer(name=card.name, kind=type(tokenizer).__name__)
    return tokenizer


def _check_vocabulary(loaded: LoadedModel, card: ModelCard) -> None:
    """Ids beyond the embedding end every answer. Added tokens may lie there if the template does not write them."""
    known, tokenizer = loaded.embeddings, loaded.tokenizer
    added = tokenizer.added_tokens_decoder
    beyond = max((number for number in tokenizer.get_vocab().values() if number not in added), default=0)
    prompt = PromptBuilder(tokenizer, loaded.chat_template, 0, loaded.turn_rules)
    written = prompt.tokens([{"role": "user", "content": "Hi"}]) if loaded.processor is None else []
    most = max([beyond, *written])
    if most >= known:
        raise TokenizerDoesNotMatch(name=card.name, tokens=most + 1, rows=known)


def _stop_ids(
    card: ModelCard,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    generation: dict[str, Any],
    template: str,
) -> tuple[int, ...]:
    vocabulary = tokenizer.get_vocab()
    inner = CHANNELS.dropped if format_of(template) is CHANNELS else ()  # end a message within the answer
    ends = [*card.stop_tokens, *(token for token in TURN_ENDS if token in template and token not in inner)]
    found = {vocabulary[token] for token in ends if token in vocabulary}
    config: Any = model.config
    told = generation.get("eos_token_id", getattr(config.get_text_config(), "eos_token_id", None))
    return tuple(sorted(found | token_ids(tokenizer.eos_token_id) | token_ids(told)))


def _context_tokens(config: PreTrainedConfig, card: ModelCard) -> int:
    text: Any = config.get_text_config()
    for name in LENGTHS:
        if isinstance(length := getattr(text, name, None), int) and length > 0:
            return length
    return card.context_tokens or UNSTATED_CONTEXT_TOKENS
