"""Text appears in whole characters, and never more than a stop string allows."""

from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

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


def pieces(stream: Detokenizer, tokens: Sequence[int]) -> list[str]:
    return [stream.push(token) for token in tokens]


def test_a_character_appears_once_its_last_byte_has_come(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    shown = pieces(Detokenizer(bytes_tokenizer), bytes_tokenizer.encode("书🙂é"))
    assert shown == ["", "", "书", "", "", "", "🙂", "", "é"]


def test_half_a_character_at_the_end_is_dropped(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    stream = Detokenizer(bytes_tokenizer)
    shown = pieces(stream, bytes_tokenizer.encode("好书")[:-1])
    assert "".join(shown) + stream.finish() == "好"


def test_text_ends_before_a_stop_string_that_spans_tokens(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    stream = Detokenizer(bytes_tokenizer, stop=["观察:", "END"])
    shown = pieces(stream, bytes_tokenizer.encode("思考 E观察: 没有"))
    assert "".join(shown) == "思考 E"
    assert stream.stopped


def test_what_only_looked_like_a_stop_string_is_shown_after_all(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    stream = Detokenizer(bytes_tokenizer, stop=["STOP"])
    shown = "".join(pieces(stream, bytes_tokenizer.encode("a STO")))
    assert shown == "a "
    assert stream.finish() == "STO"


def test_special_tokens_show_only_when_kept(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = bytes_tokenizer.encode("a<end>")
    assert "".join(pieces(Detokenizer(bytes_tokenizer), tokens)) == "a"
    assert "".join(pieces(Detokenizer(bytes_tokenizer, keep_special_tokens=True), tokens)) == "a<end>"
