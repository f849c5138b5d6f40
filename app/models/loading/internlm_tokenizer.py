"""InternLM's tokenizers, built from their sentencepiece file without the code that comes with the checkpoints."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

_BPE = 2
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
_SPACE = "▁"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of `tokenizer.model`: each stretch between special tokens becomes what sentencepiece makes of it.

    Raises OSError or ValueError when the file is missing or is not such a model.
    """
    proto = _read(folder / "tokenizer.model")
    settings = _settings(folder)
    roles = {role: _content(settings.get(role) or default) for role, default in _ROLES.items()}
    added = _added_tokens(folder, settings, proto)
    vocabulary = [added[i].content if i in added else piece.piece for i, piece in enumerate(proto.pieces)]
    tokenizer = _bpe(proto, vocabulary, added)
    tokenizer.add_special_tokens([token for _, token in sorted(added.items())])
    tokenizer.post_processor = _post_processor(tokenizer, roles, settings)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=settings.get("chat_template"),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens=[token.content for token in added.values() if token.content not in roles.values()],
        **roles,
    )


def _read(file: Path) -> Any:
    proto = ModelProto()
    try:
        proto.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError is not importable everywhere
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{file.name} is not a sentencepiece model") from error
    if not proto.pieces or proto.trainer_spec.model_type != _BPE:
        raise ValueError(f"{file.name} is not a sentencepiece BPE model")
    return proto


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _added_tokens(folder: Path, settings: dict[str, Any], proto: Any) -> dict[int, AddedToken]:
    """Special tokens by id. Those the checkpoint names take the place of the pieces kept unused for them."""
    tokens = {i: piece.piece for i, piece in enumerate(proto.pieces) if piece.type == _CONTROL}
    tokens[proto.trainer_spec.unk_id] = proto.pieces[proto.trainer_spec.unk_id].piece
    listed = folder / "added_tokens.json"
    if listed.exists():
        tokens |= {int(i): token for token, i in json.loads(listed.read_text(encoding="utf-8")).items()}
    tokens |= {int(i): _content(token) for i, token in settings.get("added_tokens_decoder", {}).items()}
    return {i: AddedToken(token, special=True, normalized=False) for i, token in tokens.items()}


def _bpe(proto: Any, vocabulary: list[str], added: dict[int, AddedToken]) -> Tokenizer:
    whole = [piece.piece for i, piece in enumerate(proto.pieces) if piece.type == _USER_DEFINED and i not in added]
    normal = {
        piece.piece: piece.score for i, piece in enumerate(proto.pieces) if piece.type == _NORMAL and i not in added
    }
    model = BPE(
        vocab={token: i for i, token in enumerate(vocabulary)},
        merges=_merges(normal),
        unk_token=vocabulary[proto.trainer_spec.unk_id],
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
        # A piece that stands whole is taken whole, which user-defined symbols need: no merge leads to them.
        ignore_merges=bool(whole),
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    if whole:
        longest_first = sorted((re.escape(piece) for piece in whole), key=len, reverse=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(longest_first)), "isolated")
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, in the order sentencepiece prefers them: by the score of the result."""
    ranked: list[tuple[float, str, str]] = []
    for piece, score in scores.items():
        splits = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        ranked.extend((-score, left, right) for left, right in splits if left in scores and right in scores)
    ranked.sort(key=lambda merge: merge[0])
    return [(left, right) for _, left, right in ranked]


def _normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    steps.append(normalizers.Replace(" ", _SPACE))
    return normalizers.Sequence(steps)


def _post_processor(
    tokenizer: Tokenizer, roles: dict[str, str], settings: dict[str, Any]
) -> processors.TemplateProcessing:
    first = [roles["bos_token"]] if settings.get("add_bos_token", True) else []
    last = [roles["eos_token"]] if settings.get("add_eos_token", False) else []
    special = [(token, tokenizer.token_to_id(token)) for token in (*first, *last)]
    return processors.TemplateProcessing(
        single=_around(first, "$A", last, 0),
        pair=f"{_around(first, '$A', last, 0)} {_around(first, '$B', last, 1)}",
        special_tokens=special,
    )


def _around(first: Iterable[str], sequence: str, last: Iterable[str], kind: int) -> str:
    return " ".join(f"{token}:{kind}" for token in (*first, sequence, *last))
