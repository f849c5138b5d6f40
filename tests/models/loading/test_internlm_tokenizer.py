"""Ids and text are sentencepiece's own, between the special tokens."""

import random
import re
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import AutoTokenizer

from app.models.loading.internlm_tokenizer import load_tokenizer
from tests.models.loading import original_internlm as original

TEXTS = [
    "",
    " ",
    "你好，世界",
    "  two spaces, tab\tand\nnew lines\n\n",
    "hello world model 20245",
    "罕见字：龘靐 and 👩‍👩‍👧 emoji é",
    "print(world)\n    return",
    "▁ written out",
]


def random_texts(count: int) -> list[str]:
    choose = random.Random(1)
    pieces = [
        "你",
        "好",
        "浦语",
        "模型",
        "hello",
        "wor",
        "ld",
        " ",
        "  ",
        "\n",
        "\t",
        "7",
        "é",
        "🙂",
        ".",
        "the",
        "model",
    ]
    return ["".join(choose.choices(pieces, k=choose.randint(1, 14))) for _ in range(count)]


def between(text: str, marks: tuple[str, ...], processor: sentencepiece.SentencePieceProcessor, ids: dict[str, int]):
    """The published rule: cut at the special tokens, each stretch goes through sentencepiece on its own."""
    for stretch in re.split(f"({'|'.join(map(re.escape, marks))})", text):
        yield from [ids[stretch]] if stretch in marks else processor.encode(stretch)


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_ids_are_sentencepieces(tmp_path: Path, dummy_prefix: bool) -> None:
    processor = original.write_internlm2_tokenizer(tmp_path, dummy_prefix=dummy_prefix)
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer.get_vocab()
    marks = (*original.SPECIAL, "<s>", "</s>")
    samples = TEXTS + random_texts(300)
    samples += [f"<s><|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in samples]
    for text in samples:
        expected = list(between(text, marks, processor, ids))
        assert tokenizer.encode(text, add_special_tokens=False) == expected, repr(text)


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_symbols_of_the_model_itself_do_not_cut_the_text(tmp_path: Path, dummy_prefix: bool) -> None:
    processor = original.write_internlm_tokenizer(tmp_path, dummy_prefix=dummy_prefix)
    tokenizer = load_tokenizer(tmp_path)
    samples = TEXTS + random_texts(300)
    samples += [f"<|User|>:{text}<eoh>\n<|Bot|>:{text}<eoa>\n" for text in samples] + ["<eoa>", "<eoh><eoa> x"]
    for text in samples:
        assert tokenizer.encode(text, add_special_tokens=False) == processor.encode(text), repr(text)


def test_special_tokens_have_the_ids_kept_for_them(tmp_path: Path) -> None:
    processor = original.write_internlm2_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer) == processor.vocab_size()
    for number, token in enumerate(original.SPECIAL, 141):
        assert tokenizer.convert_tokens_to_ids(token) == processor.piece_to_id(f"[UNUSED_TOKEN_{number}]")
        assert tokenizer.encode(f"a{token}b", add_special_tokens=False).count(tokenizer.get_vocab()[token]) == 1
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.encode("x")[0] == 1


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_text_comes_back_with_its_spaces(tmp_path: Path, dummy_prefix: bool) -> None:
    original.write_internlm2_tokenizer(tmp_path, dummy_prefix=dummy_prefix)
    tokenizer = load_tokenizer(tmp_path)
    for text in TEXTS[:-1] + random_texts(200):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    kept = tokenizer.decode(tokenizer.encode("x<|im_end|>", add_special_tokens=False))
    assert kept == "x<|im_end|>"
    assert tokenizer.decode(tokenizer.encode("x<|im_end|>"), skip_special_tokens=True) == "x"


def test_saved_it_is_the_same_without_the_sentencepiece_file(tmp_path: Path) -> None:
    original.write_internlm2_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "<|im_start|>user\n 你好 hello<|im_end|>"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))


def test_merges_follow_the_scores_not_the_order_of_the_file(tmp_path: Path) -> None:
    original.write_internlm_tokenizer(tmp_path)
    proto = ModelProto()
    proto.ParseFromString((tmp_path / "tokenizer.model").read_bytes())
    reserved = [piece for piece in proto.pieces if piece.type != 1]
    pieces = [piece for piece in proto.pieces if piece.type == 1]
    random.Random(2).shuffle(pieces)
    shuffled = [type(piece).FromString(piece.SerializeToString()) for piece in (*reserved, *pieces)]
    del proto.pieces[:]
    proto.pieces.extend(shuffled)
    (tmp_path / "tokenizer.model").write_bytes(proto.SerializeToString())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    tokenizer = load_tokenizer(tmp_path)
    for text in TEXTS + random_texts(200):
        assert tokenizer.encode(text, add_special_tokens=False) == processor.encode(text), repr(text)
