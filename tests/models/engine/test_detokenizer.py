"""Detokenizer: whole characters, and U+FFFD for bytes that make none."""

from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from app.models.engine.detokenizer import Detokenizer


@pytest.fixture(scope="module")
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that every Chinese character and emoji spans several; `<end>` is special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": ["<end>"]})
    return fast


@pytest.fixture(scope="module")
def fallback_tokenizer() -> PreTrainedTokenizerFast:
    """As sentencepiece models have it: bytes where there is no piece, and a space before the first word."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pieces(stream: Detokenizer, tokens: Sequence[int]) -> list[str]:
    return [stream.push(token) for token in tokens]


def test_a_character_appears_once_its_last_byte_has_come(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    shown = pieces(Detokenizer(bytes_tokenizer), bytes_tokenizer.encode("书🙂é"))
    assert shown == ["", "", "书", "", "", "", "🙂", "", "é"]


def test_half_a_character_at_the_end_is_dropped(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    stream = Detokenizer(bytes_tokenizer)
    assert "".join(pieces(stream, bytes_tokenizer.encode("好书")[:-1])) == "好"


def test_bytes_that_are_no_utf8_show_as_such_and_the_stream_goes_on(
    bytes_tokenizer: PreTrainedTokenizerFast, fallback_tokenizer: PreTrainedTokenizerFast
) -> None:
    names = [*(f"<0x{byte:02X}>" for byte in b"\xc3\xa9\xff"), "▁a", "▁a"]
    tokens = [fallback_tokenizer.convert_tokens_to_ids(name) for name in names]
    assert pieces(Detokenizer(fallback_tokenizer), tokens) == ["", "é", "\ufffd", " a", " a"]
    within = Detokenizer(fallback_tokenizer)
    within.begin_within_text()
    assert [pieces(stream, tokens[-1:]) for stream in (Detokenizer(fallback_tokenizer), within)] == [["a"], [" a"]]
    by_byte = bytes_to_unicode()
    wrong = bytes_tokenizer.convert_tokens_to_ids([by_byte[byte] for byte in b"\xc3\xa9\xffa" + b"\xff" * 9 + b"b"])
    assert "".join(pieces(Detokenizer(bytes_tokenizer), wrong)) == "é\ufffda" + "\ufffd" * 9 + "b"


@pytest.mark.parametrize("before", range(12))
def test_a_character_behind_bytes_that_are_none_is_whole(bytes_tokenizer: PreTrainedTokenizerFast, before: int) -> None:
    by_byte = bytes_to_unicode()
    written = b"\x91" * before + "ñ书🙂!".encode()
    tokens = bytes_tokenizer.convert_tokens_to_ids([by_byte[byte] for byte in written])
    assert "".join(pieces(Detokenizer(bytes_tokenizer), tokens)) == "\ufffd" * before + "ñ书🙂!"


def test_special_tokens_show_only_when_kept(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = bytes_tokenizer.encode("a<end>")
    assert "".join(pieces(Detokenizer(bytes_tokenizer), tokens)) == "a"
    assert "".join(pieces(Detokenizer(bytes_tokenizer, keep_special_tokens=True), tokens)) == "a<end>"
