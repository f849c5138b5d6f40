"""Detokenizer: incremental token ids to text, whole characters only; bytes that are no UTF-8 become U+FFFD."""

import codecs
import re
from collections.abc import Collection, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

LONGEST_CHARACTER = 4  # bytes in UTF-8, so never more tokens
REPLACED = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Detokenizer:
    """Feed tokens with `push`; what it returns can be shown. `kept_tokens` are special tokens that show as text."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        keep_special_tokens: bool = False,
        kept_tokens: Collection[str] = (),
    ) -> None:
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self._kept = frozenset(kept_tokens)
        self._keep_all = keep_special_tokens
        self._started = False
        self._new_stream()
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text this token completes."""
        name = self._tokenizer.id_to_token(token)
        if name is None:
            return ""
        if (byte := _BYTE.fullmatch(name)) and self._is_byte(token):
            self.begin_within_text()
            return self._bytes.decode(bytes([int(byte[1], 16)]))
        half = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        if name in self._kept and not self._keep_all:
            return half + name
        return half + self._step(token)

    def begin_within_text(self) -> None:
        """A decoder drops a space at the very beginning; text that comes later is not at the beginning."""
        if not self._started:
            for token in self._tokenizer.encode("a", add_special_tokens=False).ids:
                self._step(token)

    def text(self, token: int) -> str:
        """A token by itself."""
        return self._decoded([token])

    def _step(self, token: int) -> str:
        self._started = True
        self._pending.append(token)
        broken = False
        try:
            piece = self._decoder.step(self._tokenizer, token)
        except Exception:  # tokenizers has no kind of its own for bytes that change what came before them
            piece, broken = None, True
        text = piece or self._decoded(self._pending)
        if piece or not text:  # a special token says nothing
            self._pending.clear()
        elif broken or len(self._pending) > LONGEST_CHARACTER:
            return self._given_up()
        return piece or ""

    def _given_up(self) -> str:
        """The text of tokens that make no character, but for those at their end that may begin one."""
        tokens = self._pending
        half = next((n for n in (3, 2, 1) if self._decoded(tokens[-n:]) == REPLACED), 0)
        given, begun = tokens[: len(tokens) - half], tokens[len(tokens) - half :]
        self._new_stream()
        self.begin_within_text()
        return self._decoded(given) + "".join(self._step(token) for token in begun)

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=not self._keep_all))

    def _new_stream(self) -> None:
        self._decoder = DecodeStream(skip_special_tokens=not self._keep_all)
        self._started = False
        self._pending: list[int] = []  # tokens since the last text

    def _is_byte(self, token: int) -> bool:
        """Whether the token stands for a byte, not for its own name."""
        return self._tokenizer.decode([token], skip_special_tokens=False) != self._tokenizer.id_to_token(token)
